#!/usr/bin/env python3
"""Take the README's pictures of the web page: the recipe is served, a headless Chromium asks, at desk and phone width.

    ragtune demo && python scripts/screenshot.py            # needs pip install 'ragtune[dev]' and a chromium on PATH
"""

from __future__ import annotations

import argparse
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from ragtune.recipe.load import load_recipe

QUESTION = "What was Norvane Industries' net income in fiscal 2022?"
COMPARED = "What were Bramholt Stores' net revenues in fiscal 2021?"
SIZES = {"desk": (1200, 760), "phone": (390, 844)}


def serve(recipe: Any) -> tuple[Any, str]:
    """Start the recipe's server on a free port of this machine; return it and its address."""
    import uvicorn

    from ragtune.server.app import create_app
    from ragtune.server.service import open_service

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create_app(open_service(recipe)), host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise SystemExit("the server did not start")
        time.sleep(0.05)
    return server, f"http://127.0.0.1:{port}/"


def ask(page: Any, question: str, answers: int = 1) -> None:
    """Ask and wait for the checked answers."""
    page.fill("#question", question)
    page.press("#question", "Enter")
    page.locator(".turn:first-child .acts").nth(answers - 1).wait_for()


def shoot(browser: Any, address: str, out: Path, size: str, scheme: str) -> None:
    """Take the pictures of one width and colour scheme."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme,
                                  device_scale_factor=2 if size == "phone" else 1, has_touch=size == "phone",
                                  is_mobile=size == "phone")
    page = context.new_page()
    page.set_default_timeout(600_000)
    end = "" if scheme == "light" else f"-{scheme}"
    page.goto(address)
    page.locator("#about", has_text="document").wait_for()
    page.screenshot(path=out / f"{size}-start{end}.png")
    ask(page, QUESTION)
    page.locator(".source").first.click()
    page.locator("#source .hit").first.wait_for()
    page.wait_for_timeout(200)
    page.screenshot(path=out / f"{size}-source{end}.png")
    page.keyboard.press("Escape")
    page.screenshot(path=out / f"{size}-answer{end}.png")
    if scheme == "light":
        page.check("#compare")
        ask(page, COMPARED, answers=2)
        page.screenshot(path=out / f"{size}-compare.png")
        for view in ("documents", "jobs", "reports"):
            page.get_by_role("link", name=view.capitalize(), exact=True).click()
            page.locator(f"#view-{view} :is(.card, td, .empty, .error)").first.wait_for()
            page.screenshot(path=out / f"{size}-{view}.png")
    context.close()


def main() -> None:
    """Serve, look, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", dest="settings")
    parser.add_argument("--out", type=Path, default=Path("data/pictures"))
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no chromium on PATH. Do: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server, address = serve(load_recipe(arguments.recipe, [*arguments.settings, f"server.folder={folder}", "server.timeout_s=600"]))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for size, scheme in (("desk", "light"), ("phone", "light"), ("desk", "dark")):
            shoot(browser, address, arguments.out, size, scheme)
        browser.close()
        server.should_exit = True
    print(f"{len(list(arguments.out.glob('*.png')))} pictures in {arguments.out}")


if __name__ == "__main__":
    main()
