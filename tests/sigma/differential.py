#!/usr/bin/env python3
"""Holds which events our engine says each Sigma rule matches to what pySigma's SQLite backend says.

In: the program `hits` (functions/detect/examples/hits.rs), our own pack with the events of its tests, and, where the
shared data lies beside the repository, SigmaHQ's AWS rules and all CloudTrail records there. Each plain rule becomes one
SQL query by the backend, over a table with one text column per field that rules ask for. Out: counts, and status 1 for
every (rule, event) that only one side says, unless `differences.tsv` names the rule with the reason; an entry there that
nothing needs any more fails too. So does a rule that the backend cannot convert and that is not named there.

How a record becomes a row, which is where CloudTrail differs from flat logs:
- an absent field and a null one are NULL;
- an object is its compact JSON text; numbers and booleans are text, but in columns that rules compare with `<` and `>`;
- an array, in the middle of a path or at its end, stands for any of its elements. SQL has no such value, so its column
  holds all elements, and `=` (a collation), LIKE and REGEXP on such a column hold when they do for one of them.

usage: differential.py HITS_PROGRAM
"""
import collections
import csv
import functools
import json
import pathlib
import re
import sqlite3
import subprocess
import sys
import tempfile

import yaml
from sigma.backends.sqlite import sqliteBackend
from sigma.collection import SigmaCollection
from sigma.conditions import ConditionFieldEqualsValueExpression
from sigma.exceptions import SigmaError
from sigma.processing.pipeline import ProcessingItem, ProcessingPipeline
from sigma.processing.transformations import ValueListPlaceholderTransformation
from sigma.types import SigmaCompareExpression

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACK = ROOT / "functions/detect/rules"
SHARED = ROOT.parent / "shared/data"
DIFFERENCES = pathlib.Path(__file__).with_name("differences.tsv")
SEPARATOR = "\x1e"
TABLE, EVERYTHING = "logs", "everything"
# Both sides get the same, so that rules with placeholders are compared too. The values stand in events of our tests.
PLACEHOLDERS = {
    "trusted_accounts": ["111122223333"],
    "trusted_networks": ["198.51.100.0/24"],
    "administrator_roles": ["Admin*"],
    "known_vendors": ["444455556666"],
}


# --- Records as rows

def find(value, path):
    """The values under a dotted path: any element of an array, and a key that itself has dots in it."""
    if not path:
        return [value]
    if isinstance(value, list):
        return [found for item in value for found in find(item, path)]
    if not isinstance(value, dict):
        return []
    if "." in path and path in value:
        return [value[path]]
    key, _, rest = path.partition(".")
    return find(value[key], rest) if key in value else []


def leaves(value):
    """The elements of arrays, or the value itself."""
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def text(value):
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def number(value):
    """A number where there is one; texts often hold them."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return text(value)
    try:
        return int(value)
    except ValueError:
        try:
            return float(value)
        except ValueError:
            return value


def cell(record, field, compared):
    """What a column holds, and whether it holds several values."""
    found = find(record, field)
    several = len(found) > 1 or any(isinstance(value, list) for value in found)
    values = [leaf for value in found for leaf in leaves(value)]
    if several and values != [None] * len(values):
        return SEPARATOR + SEPARATOR.join(text(value) for value in values if value is not None), True
    if not values or values[0] is None:
        # An empty array is there, and holds nothing.
        return (SEPARATOR if found and found[0] is not None and several else None), several
    return (number(values[0]) if compared else text(values[0])), False


def all_texts(value):
    if isinstance(value, dict):
        return "\n".join(all_texts(item) for item in value.values())
    if isinstance(value, list):
        return "\n".join(all_texts(item) for item in value)
    return "" if value is None else text(value)


# --- What SQL says of columns with several values

def elements(value):
    value = str(value)
    return value.split(SEPARATOR)[1:] if value.startswith(SEPARATOR) else [value]


def same(left, right):
    """A collation: equal when any elements are."""
    ours, theirs = ({e.casefold() for e in elements(side)} for side in (left, right))
    if ours & theirs:
        return 0
    return -1 if left < right else 1


@functools.lru_cache(maxsize=None)
def pattern(like):
    """A LIKE pattern as an expression."""
    parts = re.findall(r"\\.|%|_|[^\\%_]+", like, re.DOTALL)
    known = {"%": ".*", "_": "."}
    body = (known.get(part) or re.escape(part[1:] if part.startswith("\\") else part) for part in parts)
    return re.compile("".join(body), re.DOTALL | re.IGNORECASE).fullmatch


def like(wanted, value, _escape="\\"):
    if wanted is None or value is None:
        return None
    return any(pattern(wanted)(element) for element in elements(value))


@functools.lru_cache(maxsize=None)
def expression(source):
    return re.compile(source).search


def regexp(source, value):
    return None if value is None else any(expression(source)(element) for element in elements(value))


def connect(records, fields, compared):
    """A table of all records: `rowid` is the record's position from 1."""
    base = sqlite3.connect(":memory:")
    base.create_collation("ANY_OF", same)
    base.create_function("like", 2, like, deterministic=True)
    base.create_function("like", 3, like, deterministic=True)
    base.create_function("regexp", 2, regexp, deterministic=True)
    columns, several = [], set()
    for field in fields:
        cells = [cell(record, field, field in compared) for record in records]
        columns.append([value for value, _ in cells])
        if any(many for _, many in cells):
            several.add(field)
    columns.append([all_texts(record) for record in records])
    typed = [f"{name} {kind(field, several, compared)}" for field, name in fields.items()] + [f"{EVERYTHING} TEXT"]
    base.execute(f"CREATE TABLE {TABLE} ({', '.join(typed)})")
    base.executemany(f"INSERT INTO {TABLE} VALUES ({','.join('?' * len(typed))})", zip(*columns, strict=True))
    return base


def kind(field, several, compared):
    if field in several:
        return "COLLATE ANY_OF" if field in compared else "TEXT COLLATE ANY_OF"
    return "COLLATE NOCASE" if field in compared else "TEXT COLLATE NOCASE"


# --- Rules as queries

class Backend(sqliteBackend):
    """The backend with a column of its own for each field: SQLite's names do not know case, the record's do."""

    def __init__(self, **options):
        super().__init__(table=TABLE, fulltext_field=EVERYTHING, **options)
        self.columns = {}

    def escape_and_quote_field(self, field):
        if field in (TABLE, EVERYTHING):
            return field
        return self.columns.setdefault(field, f"field{len(self.columns)}")


def conditions(node):
    yield node
    for part in getattr(node, "args", None) or ():
        yield from conditions(part)


def convert(folder):
    """SQL by (file, title), columns by field, fields compared as numbers, reasons by (file, title), and other documents."""
    placeholders = ProcessingPipeline(
        items=[ProcessingItem(ValueListPlaceholderTransformation())], vars=dict(PLACEHOLDERS)
    )
    backend = Backend(processing_pipeline=placeholders)
    queries, compared, refused, others = {}, set(), {}, 0
    for path in sorted(folder.rglob("*.yml")):
        for document in yaml.safe_load_all(path.read_text()):
            if "detection" not in document:
                others += 1
                continue
            name = (str(path), document["title"])
            if name in queries or name in refused:
                raise SystemExit(f"{path} has two rules with one title: {document['title']}")
            try:
                rules = SigmaCollection.from_dicts([document], collect_errors=False)
                query = backend.convert(rules)
                queries[name] = " UNION ".join(q.replace("SELECT *", "SELECT rowid", 1) for q in query)
            except (SigmaError, NotImplementedError) as error:
                refused[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                continue
            rule = rules.rules[0]
            for parsed in rule.detection.parsed_condition:
                for node in conditions(parsed.parsed):
                    comparison = isinstance(node, ConditionFieldEqualsValueExpression)
                    if comparison and isinstance(node.value, SigmaCompareExpression):
                        compared.add(node.field)
    return queries, backend.columns, compared, refused, others


# --- Events and our own hits

def pack_events(program):
    out = subprocess.run([program, "events"], check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def shared_events():
    """Records of all plain JSON files of the shared data: arrays, `Records`, one per line, `event` or `detail`."""
    def records(value):
        if isinstance(value, list):
            for item in value:
                yield from records(item)
        elif isinstance(value, dict):
            inner = next((value[k] for k in ("Records", "event", "detail") if isinstance(value.get(k), (dict, list))), None)
            if inner is not None:
                yield from records(inner)
            elif "eventName" in value:
                yield value

    decoder, found = json.JSONDecoder(), []
    for folder in ("cloudtrail", "labelled", "eventbridge"):
        for path in sorted((SHARED / folder).rglob("*json")):
            if not path.is_file():
                continue
            rest = path.read_text(errors="replace").lstrip()
            while rest:
                try:
                    value, end = decoder.raw_decode(rest)
                except ValueError:
                    break
                found.extend(records(value))
                rest = rest[end:].lstrip()
    return found


def our_hits(program, folder, records):
    """Hits as (rule, position from 1), and the rules."""
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as placeholders:
        json.dump(PLACEHOLDERS, placeholders)
        placeholders.flush()
        lines = "".join(text(record) + "\n" for record in records)
        command = [program, "match", placeholders.name, str(folder)]
        out = subprocess.run(command, input=lines, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    rules = [tuple(rule) for rule in json.loads(out[0])]
    rows = out[1:]
    if len(rows) != len(records):
        raise SystemExit(f"{len(records)} records were given, {len(rows)} answered")
    return {(rules[n], at) for at, row in enumerate(rows, 1) for n in json.loads(row)}, rules


# --- The comparison

def compare(program, name, folder, records, entries):
    """Prints what was compared, and returns what is wrong."""
    queries, fields, compared, refused, others = convert(folder)
    base = connect(records, fields, compared)
    ours, rules = our_hits(program, folder, records)
    wrong = [f"{file} ({title}): only one side has this rule" for file, title in set(rules) ^ set(queries) ^ set(refused)]
    theirs = {(rule, at) for rule, query in queries.items() for (at,) in base.execute(query)}
    ours = {hit for hit in ours if hit[0] in queries}
    seen = {}
    for file, title in refused:
        seen[relative(folder, file), title] = f"not convertible: {refused[file, title]}"
    gathered = collections.defaultdict(list)
    for hit in ours ^ theirs:
        gathered[hit[0]].append((hit[1], "ours" if hit in ours else "theirs"))
    for (file, title), hits in gathered.items():
        sides = collections.Counter(side for _, side in hits)
        first, side = min(hits)
        seen[relative(folder, file), title] = (
            f"{sides['ours']} hits only ours, {sides['theirs']} only theirs; only {side}: {text(records[first - 1])[:1500]}"
        )
    print(
        f"{name}: {len(queries)} rules compared over {len(records)} events, {len(ours & theirs)} hits on both sides, "
        f"{len(gathered)} rules that differ, {len(refused)} not convertible, {others} correlations left out"
    )
    known = {(file, title): reason for scope, file, title, reason in entries if scope == name}
    for rule, what in sorted(seen.items()):
        if rule in known:
            print(f"  known: {rule[0]} ({rule[1]}): {known[rule]}: {what[:160]}")
        else:
            wrong.append(f"{rule[0]} ({rule[1]}): {what}")
    wrong += [f"{DIFFERENCES.name}: {file} ({title}) does not differ any more" for file, title in known.keys() - seen.keys()]
    if len(ours & theirs) < len(records) // 4:
        wrong.append("hardly anything was hit")
    return [f"{name}: {what}" for what in wrong]


def relative(folder, file):
    return str(pathlib.Path(file).relative_to(folder))


def main():
    (program,) = sys.argv[1:]
    with DIFFERENCES.open(newline="") as lines:
        entries = [tuple(row) for row in csv.reader(lines, delimiter="\t") if row and not row[0].startswith("#")]
    events = pack_events(program)
    shared = (SHARED / "sigma/sigmahq/aws").is_dir()
    more = shared_events() if shared else []
    wrong = compare(program, "pack", PACK, events, entries)
    if shared:
        # Apart, so that the entries of the pack mean the same with shared data and without.
        wrong += compare(program, "pack-shared", PACK, more, entries)
        folder = SHARED / "sigma/sigmahq/aws"
        wrong += compare(program, "sigmahq", folder, events + more, entries)
    else:
        print("skipped: no shared data beside the repository")
    for what in wrong:
        print(f"DIFFERS {what}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
