"""Settings: one row each, from four origins, through one validation.

A value comes from the command line, else from `PKGHOOK_<NAME>` in the environment, else from
`pkghook.toml`, else it is the default of its field in `Settings`.  Whatever the origin, it is brought
into the form of text first and then goes through the one function that its row names.  Two add up: `keep`,
whose entries of all origins and of the vendors' files hold together, because an entry given by hand must
not void those that a vendor installed; and `severity`, where the strongest origin holds for each finding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pkghook.errors import SettingError
from pkghook.findings import Severity
from pkghook.values import NamedTuple

CONFIG_NAME = "pkghook.toml"
NOT_SETTINGS = frozenset({"PKGHOOK_CORPUS", "PKGHOOK_REQUIRE_TOOLS"})  # read by the test suite

CommandLine = Mapping[str, str | Sequence[str]]  # by setting name; switches as "yes" or "no", `keep` as a sequence
Keep = tuple[str, str, str, str]  # glob, finding id or "", reason, origin: the fields of judge.policy.Keep in order


class AtLeast(NamedTuple):
    """How much has to be gone: bytes, or else a part of what there was."""

    bytes: int = 0
    percent: float = 0.0


class Settings(NamedTuple):
    """All settings of a run, valid; the defaults stand here. Files are paths as given, "" where none is wanted."""

    config: str = ""
    debug: bool = False
    quiet: bool = False
    verbose: bool = False
    format: str = "text"
    fail_on: Severity = Severity.ERROR
    severity: tuple[tuple[str, Severity], ...] = ()  # by finding id, where it is not the registry's
    chain: str = ""  # names separated by commas, or a named chain; chain.steps.order knows which there are
    strip_symbols: str = ""
    discard_labels: bool = False
    allow_depmod_change: bool = False
    signed: str = "fail"
    livepatch: str = "strip"
    keep: tuple[Keep, ...] = ()
    keep_dir: str = "/usr/share/pkghook/keep.d"
    include_debug: bool = False
    require_proof: bool = False
    before: str = ""
    out: str = ""
    receipt: str = ""
    debug_dir: str = ""
    debug_layout: str = "build-id"
    debuglink: bool = False
    digest_before: bool = False
    dry_run: bool = False
    root: str = "/"
    kernel: str = ""
    fix: bool = False
    owned: str = "report"
    dkms_enable: bool = False
    dkms_disable: bool = False
    dkms_status: bool = False
    dkms_strip: bool = False
    dkms_sign: bool = False
    fsync: str = "auto"
    require_modules: bool = False
    second_reader: bool | None = None  # None: as the verb has it, `check` yes, `audit` no
    min_shrink: AtLeast | None = None
    baseline: tuple[str, ...] = ()  # packages, directories, modules or receipts of the last release
    max_growth: float | None = None  # percent
    max_size: int | None = None  # bytes
    jobs: int = 1  # `gather` puts the CPUs allowed to this process here where nothing else is said
    max_module_size: int = 4 << 30  # bytes, decompressed
    tool_timeout: float = 300.0  # seconds per call of an outside tool

    def fsync_wanted(self, root: str) -> bool:
        """Whether replaced files below `root` must survive a power cut: asked for, or `root` is the running system."""
        return self.fsync == "yes" or (self.fsync == "auto" and os.path.realpath(root) == "/")


# --- validation: text in, value out, ValueError with the reason ------------------------------------------------------

TRUE = frozenset({"1", "yes", "true", "on"})
FALSE = frozenset({"0", "no", "false", "off"})
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def boolean(text: str) -> bool:
    """`1 yes true on` or `0 no false off`, in any case."""
    word = text.strip().lower()
    if word in TRUE or word in FALSE:
        return word in TRUE
    raise ValueError(f"{text!r} is neither yes nor no")


def path(text: str) -> str:
    """A path as given; only a NUL, which no file name can have, is refused."""
    if "\0" in text:
        raise ValueError(f"{text!r} is not a path")
    return text


def chain(text: str) -> str:
    """Names separated by commas, blanks around them removed; whether they exist is known to `chain.steps`."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError(f"{text!r} has an empty name in it")
    return ",".join(names)


def one_of(*words: str) -> Callable[[str], str]:
    """A validation that accepts just these words."""

    def choice(text: str) -> str:
        if text in words:
            return text
        raise ValueError(f"{text!r} is not one of {', '.join(words)}")

    return choice


def severity(text: str) -> Severity:
    """The name of a severity, in small letters."""
    return Severity[one_of(*map(str, Severity))(text).upper()]


def graded(text: str) -> tuple[str, Severity]:
    """`ID=SEVERITY` for a finding that exists."""
    from pkghook.findings import severities

    id, equals, level = (part.strip() for part in text.partition("="))
    if not equals:
        raise ValueError(f"{text!r} is not ID=SEVERITY")
    if id not in severities():
        raise ValueError(f"{id!r} is not a finding; `pkghook explain` lists them")
    return id, severity(level)


def count(text: str) -> int:
    """A whole number from 1 to 4096."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a whole number")
    if not 1 <= int(text[:9]) <= 4096:
        raise ValueError(f"{text} is not between 1 and 4096")
    return int(text)


def size(text: str) -> int:
    """A number of bytes, at least 1, with an optional unit K, M, G or T (powers of 1024)."""
    number = text.strip().upper().rstrip("KMGT")
    unit = text.strip().upper()[len(number) :]
    if not (number.isascii() and number.isdigit() and len(number) < 16 and unit in UNITS):
        raise ValueError(f"{text!r} is not a size: a number of bytes, or a number with K, M, G or T")
    if int(number) == 0:
        raise ValueError("0 bytes is too small")
    return int(number) * UNITS[unit]


def at_least(text: str) -> AtLeast:
    """A percentage of more than 0 and less than 100 with a `%` behind it, or a size as `size` has it."""
    if not text.strip().endswith("%"):
        return AtLeast(bytes=size(text))
    try:
        percent = float(text.strip()[:-1])
    except ValueError:
        raise ValueError(f"{text!r} is not a percentage") from None
    if not 0 < percent < 100:
        raise ValueError(f"{text} is not between 0 and 100 %")
    return AtLeast(percent=percent)


def growth(text: str) -> float:
    """A percentage from 0 on, with or without a `%` behind it."""
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        raise ValueError(f"{text!r} is not a percentage") from None
    if not 0 <= percent < 1e6:
        raise ValueError(f"{text} is no percentage from 0 on")
    return percent


def seconds(text: str) -> float:
    """A positive, finite number of seconds."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number of seconds") from None
    if not 0 < value < 1e7:
        raise ValueError(f"{text} is not a positive number of seconds")
    return value


def keep_entry(text: str) -> tuple[str, str, str]:
    """`GLOB=REASON` as (glob, "", reason)."""
    glob, equals, reason = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not GLOB=REASON")
    return _keep(glob, "", reason)


def _keep(glob: str, finding: str, reason: str) -> tuple[str, str, str]:
    if not glob.strip():
        raise ValueError("a keep entry needs a glob")
    if not reason.strip():
        raise ValueError(f"the keep entry for {glob!r} needs a reason")
    if finding:
        from pkghook.findings import severities

        if finding not in severities():
            raise ValueError(f"the keep entry for {glob!r} names a finding {finding!r} that does not exist")
    return glob.strip(), finding, reason.strip()


# --- the table -------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One setting as it is given from outside. Its default is that of the field of the same name in `Settings`."""

    name: str
    flags: tuple[str, ...]  # the long one last
    parse: Callable[[str], object]
    help: str
    verbs: tuple[str, ...] = ()  # none named: all
    metavar: str = ""  # none: a switch without a value
    many: bool = False

    @property
    def env(self) -> str:
        """The environment variable."""
        return "PKGHOOK_" + self.name.upper()


_STRIP = ("strip",)
_CHECK = ("check",)
_AUDIT = ("audit",)
_DKMS = ("dkms",)
_SYSTEM = ("audit", "dkms")
_POLICY = ("strip", "check", "audit")
_JUDGE = (*_POLICY, "dkms")
_LOOK = ("check", "audit")
_FIX = ("strip", "audit", "dkms")
_PROVE = ("strip", "verify")
_READ = ("strip", "check", "audit", "record", "verify")
_TELL = ("strip", "check", "audit", "verify", "dkms", "explain", "tools")

ROWS: tuple[Row, ...] = (
    Row("chain", ("--chain",), chain, "steps to try, in order, or a named chain (thread)", _FIX, "A,B,C"),
    Row(
        "strip_symbols",
        ("--strip-symbols",),
        path,
        "also drop the symbols listed in FILE, or in symbols.safe or symbols.2009",
        _PROVE,
        "FILE",
    ),
    Row("discard_labels", ("--discard-labels",), boolean, "also drop local labels that no relocation names", _PROVE),
    Row(
        "allow_depmod_change",
        ("--allow-depmod-change",),
        boolean,
        "accept a symbol list that changes what depmod writes",
        _STRIP,
    ),
    Row(
        "signed",
        ("--signed",),
        one_of("fail", "keep", "strip"),
        "signed and still unstripped modules: fail, keep them, or (strip) remove the signature and strip",
        _POLICY,
        "fail|keep|strip",
    ),
    Row(
        "livepatch",
        ("--livepatch",),
        one_of("strip", "keep", "fail"),
        "livepatch modules: strip debug information only, keep them, or fail",
        _JUDGE,
        "strip|keep|fail",
    ),
    Row(
        "keep",
        ("--keep",),
        keep_entry,
        "leave the modules that match GLOB as they are; may be given several times",
        _JUDGE,
        "GLOB=REASON",
        many=True,
    ),
    Row("keep_dir", ("--keep-dir",), path, "directory of *.toml files with further keep entries", _JUDGE, "DIR"),
    Row(
        "include_debug",
        ("--include-debug",),
        boolean,
        "take in the modules of debug trees",
        ("strip", "check", "record"),
    ),
    Row("require_proof", ("--require-proof",), boolean, "fail when a module has no proof", _STRIP),
    Row(
        "before",
        ("--before",),
        path,
        "record made by `pkghook record` before other tools ran",
        ("strip", "check"),
        "FILE",
    ),
    Row("out", ("-o", "--out"), path, "where the record goes", ("record",), "FILE"),
    Row(
        "receipt",
        ("--receipt",),
        path,
        "receipt (JSON): strip, dkms and audit --fix write it to FILE, check holds the modules against it",
        ("strip", "check", "audit", "dkms"),
        "FILE",
    ),
    Row("require_modules", ("--require-modules",), boolean, "fail where there is no module at all", _CHECK),
    Row(
        "min_shrink",
        ("--min-shrink",),
        at_least,
        "fail unless the modules have lost so much since --receipt or --before saw them",
        _CHECK,
        "BYTES|N%",
    ),
    Row(
        "second_reader",
        ("--second-reader",),
        boolean,
        "have each module's section table read by pyelftools as well [default: yes in check, no in audit]",
        _LOOK,
    ),
    Row(
        "baseline",
        ("--baseline",),
        path,
        "compare with the last release: package, directory or receipt; may be given several times",
        _CHECK,
        "PATH",
        many=True,
    ),
    Row(
        "max_growth",
        ("--max-growth",),
        growth,
        "fail when the modules together are by more than PERCENT larger than --baseline",
        _CHECK,
        "PERCENT",
    ),
    Row(
        "max_size",
        ("--max-size",),
        size,
        "fail when the modules of a PATH together are larger, as they lie on disk",
        _CHECK,
        "BYTES[K|M|G]",
    ),
    Row("debug_dir", ("--debug-dir",), path, "split the debug information off into files below DIR", _STRIP, "DIR"),
    Row(
        "debug_layout",
        ("--debug-layout",),
        one_of("build-id", "mirror"),
        "where below DIR: .build-id/xx/yyyy.debug, or the module's own path with .debug behind",
        _STRIP,
        "build-id|mirror",
    ),
    Row("debuglink", ("--debuglink",), boolean, "add a .gnu_debuglink to each module with a debug file", _STRIP),
    Row("digest_before", ("--digest-before",), boolean, "put the SHA-256 of the bytes before into the receipt", _STRIP),
    Row("dry_run", ("-n", "--dry-run"), boolean, "say what would happen and change nothing", _FIX),
    Row("dkms_enable", ("--enable",), boolean, "take DKMS's sign_file slot, and the stripping of its modules", _DKMS),
    Row("dkms_disable", ("--disable",), boolean, "give both back", _DKMS),
    Row("dkms_status", ("--status",), boolean, "tell how slot, keys and installed modules are", _DKMS),
    Row("dkms_strip", ("--strip",), boolean, "strip what DKMS has installed, and sign it again", _DKMS),
    Row("dkms_sign", ("--sign",), boolean, "what the slot runs: HASH KEY CERTIFICATE MODULE", _DKMS),
    Row(
        "fsync",
        ("--fsync",),
        one_of("auto", "yes", "no"),
        "flush each replaced module to disk; auto: when ROOT is the running system",
        _STRIP,
        "auto|yes|no",
    ),
    Row("root", ("--root",), path, "the installed system to look at or work on", _SYSTEM, "DIR"),
    Row("kernel", ("--kernel",), path, "only this directory of lib/modules", _SYSTEM, "VERSION"),
    Row("fix", ("--fix",), boolean, "strip the unstripped modules that no package owns", _AUDIT),
    Row(
        "owned",
        ("--owned",),
        one_of("report", "strip"),
        "unstripped modules that a package owns: report them, or have --fix strip them too",
        _AUDIT,
        "report|strip",
    ),
    Row(
        "fail_on",
        ("--fail-on",),
        severity,
        "lowest severity that fails the run",
        ("check", "audit", *_PROVE, "dkms"),
        "info|warning|error",
    ),
    Row(
        "severity",
        ("--severity",),
        graded,
        "how much a finding weighs; may be given several times",
        _READ,
        "ID=info|warning|error",
        many=True,
    ),
    Row("jobs", ("-j", "--jobs"), count, "modules at a time [default: the CPUs allowed]", _READ, "N"),
    Row(
        "max_module_size",
        ("--max-module-size",),
        size,
        "refuse larger modules, decompressed",
        (*_READ, "dkms"),
        "BYTES[K|M|G]",
    ),
    Row("tool_timeout", ("--tool-timeout",), seconds, "time limit of one call of a tool", _FIX, "SECONDS"),
    Row("format", ("--format",), path, "form of the output", _TELL, "FORMAT"),
    Row("quiet", ("-q", "--quiet"), boolean, "only what fails the run"),
    Row("verbose", ("-v", "--verbose"), boolean, "also what is normal"),
    Row("config", ("--config",), path, "read settings from FILE [default: ./pkghook.toml if there is one]", (), "FILE"),
    Row("debug", ("--debug",), boolean, "show a traceback when pkghook itself is at fault"),
)


def rows(verb: str = "") -> list[Row]:
    """The rows that concern `verb` (all for "")."""
    return [row for row in ROWS if not verb or not row.verbs or verb in row.verbs]


def default_text(row: Row) -> str:
    """The default of a row's setting as a user would write it, "" where there is nothing to say."""
    value = Settings._field_defaults[row.name]
    if isinstance(value, bool) or not value or row.name == "jobs":
        return ""
    if row.name == "max_module_size":
        return f"{value >> 30}G"
    return f"{value:g}" if isinstance(value, float) else str(value)


# --- the four origins ------------------------------------------------------------------------------------------------


class _Given(NamedTuple):
    rank: int  # 0 command line, 1 environment, 2 file
    origin: str
    text: str


class _File(NamedTuple):
    """What a configuration file says: scalars as text by setting name, keep entries apart."""

    path: str = ""
    values: Mapping[str, str] = {}
    keeps: tuple[Keep, ...] = ()
    severities: tuple[str, ...] = ()  # ID=SEVERITY


def gather(
    cli: CommandLine,
    environ: Mapping[str, str],
    *,
    verb: str = "",
    formats: Collection[str] = (),
) -> Settings:
    """The settings of one run.

    `cli` is what the command line gives, `environ` the environment; an empty variable counts as not set.
    With `verb` only the settings of that verb are looked at.  `formats` are the report formats that exist.
    SettingError names the origin and the setting.
    """
    file = _config_file(cli, environ)
    table = [row._replace(parse=one_of(*formats)) if row.name == "format" and formats else row for row in rows(verb)]
    given = {row.name: found for row in table if not row.many and (found := _given(row, cli, environ, file))}
    values: dict[str, Any] = {row.name: _parsed(row, given[row.name]) for row in table if row.name in given}
    values |= _loudness(given, values)
    values.setdefault("jobs", len(os.sched_getaffinity(0)))
    names = {row.name for row in table}
    if "keep" in names:
        values["keep"] = _keeps(cli, environ, file, values.get("keep_dir"))
    if "baseline" in names:
        values["baseline"] = _paths(next(row for row in table if row.name == "baseline"), cli, environ, file)
    if "severity" in names:
        values["severity"] = _severities(cli, environ, file)
    return Settings(**values)


def strangers(environ: Mapping[str, str]) -> list[str]:
    """Variables named like settings that are none. A warning is due, no more: other versions share the environment."""
    known = {row.env for row in ROWS} | NOT_SETTINGS
    return sorted(name for name in environ if name.startswith("PKGHOOK_") and name not in known)


def _given(row: Row, cli: CommandLine, environ: Mapping[str, str], file: _File) -> _Given | None:
    if row.name in cli:
        return _Given(0, row.flags[-1], str(cli[row.name]))
    if environ.get(row.env):
        return _Given(1, row.env, environ[row.env])
    if row.name in file.values:
        return _Given(2, f"{file.path}: {row.name}", file.values[row.name])
    return None


def _parsed(row: Row, given: _Given) -> object:
    try:
        return row.parse(given.text)
    except ValueError as error:
        raise SettingError(f"{given.origin}: {error}", hint=f"{row.flags[-1]}: {row.help}") from None


def _loudness(given: Mapping[str, _Given], values: Mapping[str, object]) -> dict[str, object]:
    """Of `quiet` and `verbose` the one from the stronger origin holds: PKGHOOK_QUIET=1 in a hook yields to -v."""
    if not (values.get("quiet") and values.get("verbose")):
        return {}
    quiet, verbose = given["quiet"], given["verbose"]
    if quiet.rank == verbose.rank:
        raise SettingError(f"{quiet.origin} and {verbose.origin} contradict each other", hint="give one of them")
    return {"quiet": quiet.rank < verbose.rank, "verbose": verbose.rank < quiet.rank}


# --- keep entries ----------------------------------------------------------------------------------------------------


def _keeps(cli: CommandLine, environ: Mapping[str, str], file: _File, keep_dir: str | None) -> tuple[Keep, ...]:
    """The entries of all origins, the strongest first."""
    by_hand = [("--keep", text) for text in cli.get("keep", ())]
    by_env = [("PKGHOOK_KEEP", text) for text in environ.get("PKGHOOK_KEEP", "").replace(";", "\n").splitlines()]
    entries = [_keep_text(origin, text.strip()) for origin, text in by_hand + by_env if text.strip()]
    return (*entries, *file.keeps, *_vendor_keeps(keep_dir))


def _keep_text(origin: str, text: str) -> Keep:
    try:
        return (*keep_entry(text), origin)
    except ValueError as error:
        raise SettingError(f"{origin}: {error}", hint="--keep 'GLOB=REASON'") from None


def _vendor_keeps(asked: str | None) -> tuple[Keep, ...]:
    """Of the directory that was asked for, none for the usual one, which need not be there."""
    keep_dir = Settings().keep_dir if asked is None else asked
    try:
        names = sorted(name for name in os.listdir(keep_dir) if name.endswith(".toml")) if keep_dir else []
    except OSError as error:
        if asked is None and isinstance(error, FileNotFoundError):
            return ()
        raise SettingError(f"keep-dir: {keep_dir}: {error.strerror}") from None
    return tuple(entry for name in names for entry in _vendor_file(keep_dir, name))


def _vendor_file(keep_dir: str, name: str) -> tuple[Keep, ...]:
    where = os.path.join(keep_dir, name)
    document = _load_toml(where)
    for key in document.keys() - {"keep"}:
        raise SettingError(f"{where}: {key}: only [[keep]] entries may stand here")
    # The directory itself stays out of the origin: a receipt is the same wherever the tree was built.
    return _keep_tables(where, document.get("keep", []), f"keep.d/{name}")


def _keep_tables(where: str, tables: object, origin: str) -> tuple[Keep, ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingError(f"{where}: keep: must be [[keep]] tables")
    return tuple(_keep_table(f"{where}: keep[{at}]", table, origin) for at, table in enumerate(tables))


def _keep_table(where: str, table: Mapping[str, object], origin: str) -> Keep:
    for key in sorted(table.keys() - {"glob", "finding", "reason"}):
        raise SettingError(f"{where}: {key}: no such key", hint="the keys are glob, reason and finding")
    texts = [table.get(key, "") for key in ("glob", "finding", "reason")]
    try:
        glob, finding, reason = (_text(value) for value in texts)
        return (*_keep(glob, finding, reason), origin)
    except ValueError as error:
        raise SettingError(f"{where}: {error}") from None


# --- lists of paths --------------------------------------------------------------------------------------------------


def _paths(row: Row, cli: CommandLine, environ: Mapping[str, str], file: _File) -> tuple[str, ...]:
    """The paths that the strongest origin gives; in the environment one a line."""
    for origin, texts in (
        (row.flags[-1], [*cli.get(row.name, ())]),
        (row.env, environ.get(row.env, "").splitlines()),
        (f"{file.path}: {row.name}", file.values.get(row.name, "").splitlines()),
    ):
        given = [_parsed(row, _Given(0, origin, text)) for text in texts if text.strip()]
        if given:
            return tuple(map(str, given))
    return ()


# --- severities ------------------------------------------------------------------------------------------------------


def _severities(cli: CommandLine, environ: Mapping[str, str], file: _File) -> tuple[tuple[str, Severity], ...]:
    """Of each finding named in any origin the severity from the strongest one, sorted by id."""
    by_env = environ.get("PKGHOOK_SEVERITY", "").replace(";", "\n").splitlines()
    given = [(f"{file.path}: severity", text) for text in file.severities]
    given += [("PKGHOOK_SEVERITY", text) for text in by_env if text.strip()]
    given += [("--severity", text) for text in cli.get("severity", ())]
    found: dict[str, Severity] = {}
    for origin, text in given:
        try:
            found.update([graded(text)])
        except ValueError as error:
            raise SettingError(f"{origin}: {error}", hint="--severity ID=info|warning|error") from None
    return tuple(sorted(found.items()))


def _severity_table(where: str, table: object) -> tuple[str, ...]:
    if not isinstance(table, dict) or not all(isinstance(level, str) for level in table.values()):
        raise SettingError(f'{where}: severity: must be a [severity] table of lines like `fell-through = "error"`')
    return tuple(f"{id}={level}" for id, level in table.items())


# --- pkghook.toml ----------------------------------------------------------------------------------------------------


def _config_file(cli: CommandLine, environ: Mapping[str, str]) -> _File:
    """The file named by --config or PKGHOOK_CONFIG, else `pkghook.toml` in the current directory, else nothing."""
    named = str(cli.get("config", "") or environ.get("PKGHOOK_CONFIG", ""))
    if not named and not os.path.lexists(CONFIG_NAME):
        return _File()
    where = named or CONFIG_NAME
    document = _load_toml(where)
    values: dict[str, str] = {}
    for key, value in document.items():
        name = _known_key(where, key)
        if name in values:
            raise SettingError(f"{where}: {key}: given twice, with - and with _")
        if name not in {"keep", "severity"}:
            values[name] = _file_text(where, key, value, "\n" if name == "baseline" else ",")
    keeps = _keep_tables(where, document.get("keep", []), os.path.basename(where))
    return _File(where, values, keeps, _severity_table(where, document.get("severity", {})))


def _known_key(where: str, key: str) -> str:
    """The setting that `key` means; written as the flag (dry-run) or as the variable (dry_run)."""
    name = key.replace("-", "_")
    known = [row.name for row in ROWS if row.name != "config"]
    if name in known:
        return name
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    raise SettingError(f"{where}: {key}: no such setting", hint=f"did you mean {near[0]}?" if near else "")


def _file_text(where: str, key: str, value: object, between: str) -> str:
    try:
        return _text(value, between)
    except ValueError as error:
        raise SettingError(f"{where}: {key}: {error}") from None


def _text(value: object, between: str = ",") -> str:
    """A TOML value as it would be written in the environment, so that one validation serves all origins."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return between.join(value)
    raise ValueError("must be text, a number, true or false, or a list of texts")


def _load_toml(where: str) -> dict[str, object]:
    import tomllib

    try:
        with open(where, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingError(f"{where}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{where}: not TOML: {error}") from None
