"""Packages template.yaml and deploys it on the emulator.

In: the template and the functions' binaries (built here by plain cargo, which shares what was compiled for the other tests;
`cargo lambda` builds apart). Out: a deployed stack: its outputs and the physical names of its resources. What differs from
`sam deploy` is only where the code comes from: the template's resources, policies and settings are deployed as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import ClientError
from emulator import Emulator
from paths import OUT, ROOT, TARGET

ARTIFACTS = "stack-artifacts"
WAIT_SECONDS = 180
FUNCTIONS = ("AWS::Serverless::Function", "AWS::Lambda::Function")


class TemplateLoader(yaml.SafeLoader):
    """Reads CloudFormation's short forms (`!Ref`, `!Sub` ...) as their long ones."""


def _short_form(loader: TemplateLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


TemplateLoader.add_multi_constructor("!", _short_form)


@dataclass
class Stack:
    """A deployed stack."""

    emulator: Emulator
    name: str
    outputs: dict[str, str]
    resources: dict[str, str]  # logical id -> physical id
    template: dict[str, Any]

    def physical(self, logical: str) -> str:
        """The physical id of a resource, by its name in the template."""
        if logical not in self.resources:
            raise KeyError(f"the template has no resource {logical}: {sorted(self.resources)}")
        return self.resources[logical]


def load_template(path: Path) -> dict[str, Any]:
    """The template with long forms only."""
    read: dict[str, Any] = yaml.load(path.read_text(), Loader=TemplateLoader)  # noqa: S506 (a SafeLoader)
    return read


def binary_of(resource: dict[str, Any]) -> str:
    """The cargo binary that a function's metadata names for `sam build`."""
    metadata = resource.get("Metadata", {})
    return str(metadata.get("BuildProperties", {}).get("Binary", ""))


def functions_of(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The functions that are built from this workspace, by logical id."""
    return {k: r for k, r in template["Resources"].items() if r["Type"] in FUNCTIONS and binary_of(r)}


def build(template: dict[str, Any], release: bool = False) -> dict[str, Path]:
    """Builds every binary the template names, all in one cargo call; gives their paths."""
    binaries = sorted({binary_of(r) for r in functions_of(template).values()})
    command = ["cargo", "build", "--locked", *(["--release"] if release else [])]
    for binary in binaries:
        command += ["--bin", binary]
    subprocess.run(command, cwd=ROOT, check=True)
    folder = TARGET / ("release" if release else "debug")
    return {binary: folder / binary for binary in binaries}


def package(binary: Path) -> Path:
    """A zip with the stripped binary as `bootstrap`; made again only when the binary changed."""
    folder = OUT / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    facts = binary.stat()
    stamp = hashlib.sha256(f"{binary}:{facts.st_mtime_ns}:{facts.st_size}".encode()).hexdigest()[:12]
    made = folder / f"{binary.name}-{stamp}.zip"
    if made.exists():
        return made
    for old in folder.glob(f"{binary.name}-*.zip"):
        old.unlink()
    stripped = folder / f"{binary.name}.stripped"
    if shutil.which("strip"):
        subprocess.run(["strip", "-o", str(stripped), str(binary)], check=True)
    else:
        shutil.copyfile(binary, stripped)
    entry = zipfile.ZipInfo("bootstrap", date_time=(2026, 1, 1, 0, 0, 0))
    entry.external_attr = 0o755 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    partial = made.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(entry, stripped.read_bytes())
    stripped.unlink()
    partial.rename(made)
    return made


def upload(emulator: Emulator, template: dict[str, Any], binaries: dict[str, Path]) -> dict[str, Any]:
    """Uploads the packages and gives the template that names them."""
    s3 = emulator.client("s3")
    try:
        s3.create_bucket(Bucket=ARTIFACTS)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
    packaged: dict[str, Any] = json.loads(json.dumps(template, default=str))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        made = dict(zip(binaries, pool.map(package, binaries.values()), strict=True))
    for packed in made.values():
        s3.put_object(Bucket=ARTIFACTS, Key=packed.name, Body=packed.read_bytes())
    for logical, resource in functions_of(packaged).items():
        properties = packaged["Resources"][logical]["Properties"]
        properties["CodeUri"] = {"Bucket": ARTIFACTS, "Key": made[binary_of(resource)].name}
        # The emulator runs a function on this machine whatever architecture it names.
        packaged["Resources"][logical].pop("Metadata", None)
        for event in properties.get("Events", {}).values():
            scaling = event["Properties"].get("ScalingConfig", {})
            if isinstance(scaling.get("MaximumConcurrency"), dict):
                # The emulator takes the value of a parameter for text, which it cannot compare with a number.
                scaling["MaximumConcurrency"] = template["Parameters"][scaling["MaximumConcurrency"]["Ref"]]["Default"]
    return packaged


def deploy(emulator: Emulator, template: dict[str, Any], parameters: dict[str, str], name: str = "cloudsentinel",
           key: tuple[str, str] = ("test", "test")) -> Stack:
    """Creates the stack, or updates it with other parameters, and waits for the end."""
    formation = emulator.client("cloudformation", key)
    body = json.dumps(template)
    (OUT / f"{name}.json").write_text(json.dumps(template, indent=1))
    emulator.client("s3").put_object(Bucket=ARTIFACTS, Key="template.json", Body=body.encode())
    arguments: dict[str, Any] = {
        "StackName": name,
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
    }
    # Above the size limit of a body the template comes from a bucket, as `sam deploy` does it.
    if len(body) > 51_200:
        arguments["TemplateURL"] = f"{emulator.url}/{ARTIFACTS}/template.json"
    else:
        arguments["TemplateBody"] = body
    exists = any(s["StackName"] == name for s in formation.list_stacks()["StackSummaries"] if s["StackStatus"] != "DELETE_COMPLETE")
    (formation.update_stack if exists else formation.create_stack)(**arguments)
    status = _wait(formation, name)
    resources = formation.describe_stack_resources(StackName=name)["StackResources"]
    return Stack(
        emulator, name,
        {o["OutputKey"]: o["OutputValue"] for o in status.get("Outputs", [])},
        {r["LogicalResourceId"]: r.get("PhysicalResourceId", "") for r in resources},
        template,
    )


def _wait(formation: Any, name: str) -> dict[str, Any]:
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        status: dict[str, Any] = formation.describe_stacks(StackName=name)["Stacks"][0]
        state = status["StackStatus"]
        if state in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            return status
        if not state.endswith("IN_PROGRESS"):
            events = formation.describe_stack_events(StackName=name)["StackEvents"]
            failed = [f"{e['LogicalResourceId']}: {e.get('ResourceStatusReason')}" for e in events if "FAILED" in e["ResourceStatus"]]
            raise RuntimeError(f"stack {name} is {state}: " + "; ".join(failed))
        time.sleep(0.3)
    raise TimeoutError(f"stack {name} was not there within {WAIT_SECONDS} s")
