"""A server of its own and a headless Chromium for the tests of the page; both are ended with the tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

_PLACES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def running_server(run: Path, *options: str) -> Iterator[str]:
    """``python serve.py run=RUN port=0 OPTIONS`` in a process of its own; gives its address."""
    command = [sys.executable, str(ROOT / "serve.py"), f"run={run}", "port=0", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FIRSTREAD_HOME": str(run.parent / "no_home")}
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=run.parent, env=environment
    )
    try:
        assert server.stdout is not None
        said: list[str] = []
        for line in server.stdout:
            said.append(line)
            if found := re.search(r"http://\S+/", line):
                yield found.group()
                break
        else:
            pytest.fail(f"serve.py ended before it listened:\n{''.join(said)}")
    finally:
        server.terminate()
        rest = server.communicate(timeout=60)[0]
    assert server.returncode == 0, rest


def chromium() -> str:
    """Path of a Chromium; the test is skipped, with the reason, where there is none."""
    named = os.environ.get("FIRSTREAD_CHROMIUM")
    found = named or next((path for name in _PLACES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(_PLACES)} is installed; or name one in FIRSTREAD_CHROMIUM")
    return found


@contextmanager
def running_browser() -> Iterator[Any]:
    """A headless Chromium, driven by Playwright."""
    library = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with library.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """What a page said and asked for while it was used.

    Attributes:
        address: of the server. ``complaints``: errors and warnings of the console. ``asked``: addresses of all requests.
    """

    address: str
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def watch(self, page: Any) -> None:
        """Listen to a page from now on."""
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type in _BAD else None)
        page.on("request", lambda request: self.asked.append(request.url))

    @property
    def elsewhere(self) -> list[str]:
        """Requests that went to another place than the server or the page's own memory."""
        own = (self.address, f"blob:{self.address}", "data:")
        return [address for address in self.asked if not address.startswith(own)]


_BAD = ("error", "warning")

LOW_CONTRAST = """() => {
  const numbers = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const over = (top, under) => top.slice(0, 3).map((value, part) => value * (top[3] ?? 1) + under[part] * (1 - (top[3] ?? 1)));
  const light = (colour) => colour.slice(0, 3).map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, part) => sum + value * [0.2126, 0.7152, 0.0722][part], 0);
  const ratio = (one, two) => (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
  const parents = (element) => (element ? [...parents(element.parentElement), element] : []);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility() || element.closest(".hidden, .skip")) continue;
    let ground = [255, 255, 255], opacity = 1;
    for (const parent of parents(element)) {
      ground = over(numbers(getComputedStyle(parent).backgroundColor), ground);
      opacity *= Number(getComputedStyle(parent).opacity);
    }
    const ink = numbers(getComputedStyle(element).color);
    const seen = over([...ink.slice(0, 3), (ink[3] ?? 1) * opacity], ground);
    const contrast = ratio(light(seen), light(ground));
    if (contrast < 4.5) found.push(`${contrast.toFixed(2)} ${walker.currentNode.textContent.trim()}`);
  }
  return found;
}"""
"""JavaScript: texts whose contrast with what lies behind them is below 4.5 to 1 (WCAG 2.2, success criterion 1.4.3)."""
