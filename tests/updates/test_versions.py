"""Which version is newer (semver.org 2.0.0, section 11)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypersend_server.updates.versions import Version

ASCENDING = ["0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
             "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.2.0", "1.10.0", "2.0.0"]


def test_the_order_of_the_specification() -> None:
    assert [v.text for v in sorted(map(Version, reversed(ASCENDING)))] == ASCENDING
    assert Version("1.0.0+20130313") == Version("1.0.0+exp.sha.5114f85")


@pytest.mark.parametrize("text", [
    "", "1", "1.2", "1.2.3.4", "01.2.3", "1.02.3", "1.2.03", "v1.2.3", "1.2.3-", "1.2.3-01", "1.2.3-a..b", "1.2.3+",
    "-1.2.3", "1.2.3 ", "1.2.3\n", "१.2.3", "1.2.3-" + "a" * 80])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="version"):
        Version(text)


PART = st.from_regex(r"(0|[1-9][0-9]{0,3}|[0-9]{0,3}[a-zA-Z-][0-9a-zA-Z-]{0,3})", fullmatch=True)
VERSIONS = st.builds(
    lambda numbers, before: ".".join(map(str, numbers)) + (f"-{'.'.join(before)}" if before else ""),
    st.tuples(*[st.integers(0, 999)] * 3), st.lists(PART, max_size=3)).map(Version)


@given(VERSIONS, VERSIONS, VERSIONS)
def test_it_is_an_order(one: Version, two: Version, three: Version) -> None:
    assert (one < two) + (one == two) + (two < one) == 1
    if one <= two <= three:
        assert one <= three
