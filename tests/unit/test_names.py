# SPDX-License-Identifier: Apache-2.0
"""How messages and results write names: losslessly, in any locale."""
import pytest

import mrunc  # noqa: F401  registers the package
from mrunc.sandbox.errors import raw, show


@pytest.mark.parametrize("name, text", [
    (b"plain", "plain"), (b"", ""), ("text", "text"), (7, "7"), ("\u00e9".encode(), "\u00e9"),
    (b"a\xffb", "a\udcffb"), (b"\xed\xb3\xbf", "\udced\udcb3\udcbf"), (b"\n\0", "\n\0")])
def test_a_name_is_shown_as_text(name, text):
    assert show(name) == text


@pytest.mark.parametrize("name", [bytes(range(256)), b"\xc3\xa9\xff", b"", b"\xed\xb3\xbf"])
def test_what_is_shown_leads_back_to_the_bytes(name):
    assert raw(show(name)) == name
