"""Keep entries: what a glob matches, whole modules, single findings; what of a policy a receipt names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkghook.errors import SettingError
from pkghook.findings import Finding, Severity
from pkghook.judge import policy
from pkghook.judge.policy import Keep, Livepatch, Policy, Signed
from pkghook.settings import Settings
from tests.receipts import PATHS

PATH = "lib/modules/6.1.0-1-amd64/kernel/drivers/net/dummy.ko.xz"


@pytest.mark.parametrize(
    "glob",
    [
        PATH,
        f"/{PATH}",
        "dummy.ko.xz",
        "dummy.ko*",
        "d?mmy.ko.xz",
        "[a-e]ummy.ko.xz",
        "[!x]ummy.ko.xz",
        "*",
        "**",
        "lib/modules/*/kernel/drivers/net/*",
        "lib/**/dummy.ko.xz",
        "lib/**",
        "**/dummy.ko.xz",
        "**/net/*.ko.xz",
        "lib/modules/**/**/dummy.ko.xz",
        "lib/modules/6.1*/**",
        "lib/mod**/dummy.ko.xz",
    ],
)
def test_globs_that_match(glob: str) -> None:
    """`*` within a directory, `**` across, a bare name anywhere."""
    assert Keep(glob).matches(PATH)


@pytest.mark.parametrize(
    "glob",
    [
        "dummy.ko",  # the compression suffix is part of the name
        "ummy.ko.xz",
        "Dummy.ko.xz",
        "/dummy.ko.xz",  # that one lies in ROOT itself
        "lib/*/dummy.ko.xz",
        "*/dummy.ko.xz",
        "lib/modules",
        "lib/modules/",
        "lib?modules/**",
        "lib[/]modules/**",
        "lib[!x]modules/**",
        "[!d]ummy.ko.xz",
        "usr/lib/**",
        "**/nets/*",
        "lib**/et/dummy.ko.xz",
        "dummy.ko.xz\n",
        "dummy[.ko.xz",
        "dummyx.ko.xz",
        "",
    ],
)
def test_globs_that_do_not_match(glob: str) -> None:
    """Neither half names, nor other directories, nor a `/` by a wildcard."""
    assert not Keep(glob).matches(PATH)


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("**/x.ko", "x.ko"),
        ("a/**/x.ko", "a/x.ko"),
        ("/x.ko", "x.ko"),
        ("[]x].ko", "].ko"),
        ("[a-].ko", "-.ko"),
        ("[!a-].ko", "b.ko"),
        ("[^a].ko", "^.ko"),
        ("[[].ko", "[.ko"),
        ("[.ko", "[.ko"),
        (r"[\d].ko", "d.ko"),
        (r"\d.ko", r"\d.ko"),
        ("x+(y).ko", "x+(y).ko"),
        ("x*.ko", "x\n.ko"),
        ("x?.ko", "x\udcff.ko"),
        ("**/x.ko", "a\n/x.ko"),
    ],
)
def test_globs_with_unusual_letters(glob: str, path: str) -> None:
    """Sets as the shell has them; the signs of regular expressions are letters; names need not be UTF-8."""
    assert Keep(glob).matches(path)


@given(PATHS)
def test_a_path_without_wildcards_matches_itself_alone(path: str) -> None:
    """Whatever is in a path, there is a glob for just that path."""
    glob = "/" + "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)
    assert Keep(glob).matches(path)
    assert not Keep(glob).matches(f"{path}x")
    assert not Keep(glob).matches(f"x{path}")


@given(st.text("ab/*?[]!-^\\.", max_size=8), PATHS)
def test_any_text_is_a_glob_or_refused_as_a_setting(glob: str, path: str) -> None:
    """No text gets further than the settings and fails there."""
    try:
        made = policy.of(Settings(keep=((glob, "", "why", "--keep"),)))
    except SettingError:
        return
    policy.kept_by(made, path)


def test_a_bad_set_names_its_origin() -> None:
    """A set that runs backwards is refused before any work."""
    with pytest.raises(SettingError, match=r"PKGHOOK_KEEP: '\[z-a\].ko' is not a glob: bad character range"):
        policy.of(Settings(keep=(("[z-a].ko", "", "why", "PKGHOOK_KEEP"),)))


def test_the_policy_of_settings() -> None:
    """Field by field; the defaults of both agree."""
    settings = Settings(
        signed="keep",
        livepatch="fail",
        keep=(("a.ko", "no-proof", "why", "--keep"),),
        fail_on=Severity.WARNING,
        require_proof=True,
    )
    keeps = (Keep("a.ko", "no-proof", "why", "--keep"),)
    assert policy.of(settings) == Policy(Signed.KEEP, Livepatch.FAIL, keeps, Severity.WARNING, require_proof=True)
    assert policy.of(Settings()) == Policy()


def test_kept_by_the_first_entry_without_a_finding() -> None:
    """Entries for a finding keep no module."""
    first, second = Keep("dummy.*", "", "one", "--keep"), Keep("*", "", "two", "--keep")
    found = Policy(keeps=(Keep("*", "no-proof", "x", "--keep"), first, second))
    assert policy.kept_by(found, PATH) is first
    assert policy.kept_by(found, "x.ko") is second
    assert policy.kept_by(Policy(keeps=(first,)), "x.ko") is None


def test_kept_by_any_of_its_names() -> None:
    """A module with several hard links is one module."""
    keep = Keep("other.ko", "", "why", "--keep")
    assert policy.kept_by(Policy(keeps=(keep,)), "x.ko", "a/y.ko", "a/other.ko") is keep


def test_silenced_by_id_and_subject() -> None:
    """Both have to fit; an entry for the whole module silences nothing."""
    finding = Finding("fell-through", Severity.WARNING, PATH)
    keep = Keep("dummy.*", "fell-through", "known", "--keep")
    assert policy.silenced(Policy(keeps=(Keep("*"), keep)), finding) is keep
    assert policy.silenced(Policy(keeps=(keep._replace(finding="no-proof"),)), finding) is None
    assert policy.silenced(Policy(keeps=(keep._replace(glob="x.ko"),)), finding) is None


def test_pairs_name_what_shapes_a_receipt() -> None:
    """Not where an entry stands, not what a vendor installed, not what only decides on the receipt."""
    keeps = (
        Keep("a.ko", "", "why", "--keep"),
        Keep("b=c.ko", "no-proof", "x=y", "pkghook.toml"),
        Keep("v.ko", "", "of the vendor", "keep.d/vendor.toml"),
    )
    assert policy.pairs(Policy(keeps=keeps, require_proof=True, fail_on=Severity.INFO)) == (
        ("signed", "fail"),
        ("livepatch", "strip"),
        ("require-proof", "yes"),
        ("keep", "a.ko=why"),
        ("keep no-proof", "b=c.ko=x=y"),
    )
