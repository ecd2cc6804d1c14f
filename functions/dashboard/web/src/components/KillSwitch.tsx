// The kill switch: how it stands, who set it and why, and for administrators
// the button that sets it, which asks first and says what will happen.

import { useState } from "react";
import { getKillSwitch, setKillSwitch } from "../api/endpoints";
import type { KillSwitchSetting } from "../api/types";
import { useAction } from "../hooks/useAction";
import { usePoll } from "../hooks/usePoll";
import { useSession, useUser } from "../session";
import { ConfirmDialog } from "./ConfirmDialog";
import { ErrorBanner } from "./ErrorBanner";
import { Time } from "./Time";

const WORDS = {
  on: {
    button: "Stop all actions",
    question: "Turn the kill switch on?",
    action: "Turn on",
    effect:
      "From the next call on, CloudSentinel changes nothing in any account. What is planned or approved waits for approval anew, and nothing is undone. Detection and alerts go on.",
  },
  off: {
    button: "Turn off",
    question: "Turn the kill switch off?",
    action: "Turn off",
    effect:
      "CloudSentinel may act again, as its response mode allows. What was stopped does not start by itself: it waits for approval.",
  },
};

export function KillSwitch() {
  const user = useUser();
  const { health, refreshHealth } = useSession();
  const { data, error, refresh, replace } = usePoll("kill-switch", getKillSwitch);
  const action = useAction();
  const [wanted, setWanted] = useState<"on" | "off" | null>(null);
  const on = data?.on ?? health?.kill_switch;

  const close = () => {
    setWanted(null);
    action.clear();
  };
  const confirm = async (next: "on" | "off", reason: string) => {
    const done = await action.run(async () => {
      replace(await setKillSwitch(next === "on", reason));
      refreshHealth();
    });
    if (done) close();
  };

  return (
    <div className="kill-switch">
      <p className={on === true ? "kill-on" : "muted"}>
        Kill switch: {on === undefined ? "…" : on ? "on" : "off"}
      </p>
      <ErrorBanner error={error} onRetry={refresh} stale={data !== undefined} />
      {data !== undefined && data.by !== null && <Setting setting={data} />}
      {user.role === "admin" && on !== undefined && (
        <button
          type="button"
          className={`button ${on ? "" : "button-danger"}`}
          onClick={() => setWanted(on ? "off" : "on")}
        >
          {WORDS[on ? "off" : "on"].button}
          <span className="visually-hidden"> (kill switch)</span>
        </button>
      )}
      {data !== undefined && data.earlier.length > 0 && (
        <details className="disclosure">
          <summary>Earlier settings</summary>
          <ul className="kill-earlier" aria-label="Earlier settings of the kill switch">
            {data.earlier.map((setting) => (
              <li key={`${setting.at} ${setting.by} ${setting.on}`}>
                <Setting setting={setting} />
              </li>
            ))}
          </ul>
        </details>
      )}
      {wanted !== null && (
        <ConfirmDialog
          title={WORDS[wanted].question}
          action={WORDS[wanted].action}
          danger
          busy={action.busy}
          error={action.error}
          withNote
          noteLabel="Reason, for the audit trail"
          onCancel={close}
          onConfirm={(reason) => void confirm(wanted, reason)}
        >
          <p className="effect">{WORDS[wanted].effect}</p>
        </ConfirmDialog>
      )}
    </div>
  );
}

function Setting({ setting }: { setting: KillSwitchSetting }) {
  return (
    <p className="muted">
      Turned {setting.on ? "on" : "off"} by {setting.by ?? "somebody"}
      {setting.reason !== null && `: ${setting.reason}`}
      {setting.at !== null && (
        <>
          {" "}
          <Time at={setting.at} />
        </>
      )}
    </p>
  );
}
