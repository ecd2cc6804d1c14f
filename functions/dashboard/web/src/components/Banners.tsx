// What must be seen on every screen, sign-in included: that the account is a
// simulated one, that the kill switch is on, that the server doesn't answer.

import { href } from "../lib/router";
import { useSession } from "../session";
import { messageOf } from "./ErrorBanner";

export function Banners() {
  const { health, healthError, user } = useSession();
  return (
    <>
      {health?.simulated_account === true && (
        <div className="strip strip-simulated" role="note">
          <strong>Simulated AWS account:</strong> nothing here touches a real one.
        </div>
      )}
      {health?.kill_switch === true && (
        <div className="strip strip-warn" role="note">
          <strong>Kill switch is on:</strong> CloudSentinel changes nothing in any account until an
          administrator turns it off.
          {user !== null && (
            <>
              {" "}
              <a href={href([])}>Who turned it on, and why</a>
            </>
          )}
        </div>
      )}
      <div aria-live="polite">
        {healthError !== undefined && (
          <div className="strip strip-bad">
            <strong>No live data:</strong> {messageOf(healthError)}
          </div>
        )}
      </div>
    </>
  );
}
