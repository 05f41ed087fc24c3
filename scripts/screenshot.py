#!/usr/bin/env python3
"""Take the README's pictures of the web page: the recipe is served, a headless Chromium asks, at desk and phone width.

    ragtune demo && python scripts/screenshot.py              # scripts/pictures/{answer,phone,compare}.png
    python scripts/screenshot.py --look FOLDER                # every view, light and dark, to be looked at

Needs pip install 'ragtune[dev]' and a chromium on PATH. The demo must have been tuned, or there is nothing to compare.
"""

from __future__ import annotations

import argparse
import io
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from PIL import Image

from ragtune.recipe.load import load_recipe

ASKED = "Did Norvane Industries, Inc.'s total equity increase in fiscal 2022?"
COMPARED = "By what percentage did Norvane Industries' interest expense change from fiscal 2021 to fiscal 2022?"
REFUSED = "What was the weather on Mars in 2022?"
SIZES = {"desk": (1280, 800), "phone": (390, 844)}
PICTURES = Path(__file__).parent / "pictures"
MAX_BYTES = 150_000
"""No picture of the README is larger."""
GAP = 32


def serve(recipe: Any) -> tuple[Any, threading.Thread, str]:
    """Start the recipe's server on a free port of this machine; return it, its thread and its address."""
    import uvicorn

    from ragtune.server.app import create_app
    from ragtune.server.service import open_service

    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(open_service(recipe)), log_level="error"))
    thread = threading.Thread(target=server.run, args=([taken],), daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise SystemExit("the server did not start")
        time.sleep(0.05)
    return server, thread, f"http://127.0.0.1:{taken.getsockname()[1]}/"


def open_page(browser: Any, address: str, size: str, scheme: str = "light", scale: float = 1.0) -> Any:
    """Return the page, as a desk or a phone shows it."""
    width, height = SIZES[size]
    is_phone = size == "phone"
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme,
                                  device_scale_factor=scale, has_touch=is_phone, is_mobile=is_phone, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(600_000)
    page.goto(address)
    page.locator("#about", has_text="document").wait_for()
    return page


def ask(page: Any, question: str, answers: int = 1) -> None:
    """Ask and wait for the checked answers."""
    page.fill("#question", question)
    page.press("#question", "Enter")
    page.locator(".turn:first-child .acts").nth(answers - 1).wait_for()


def open_source(page: Any) -> None:
    """Open the first source and wait for what is marked on its page."""
    page.locator(".turn:first-child .source").first.click()
    page.locator("#source .hit.amount").wait_for()


def shoot(page: Any, **options: Any) -> Image.Image:
    """Return what is seen, the pointer over nothing."""
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement?.blur()")
    return Image.open(io.BytesIO(page.screenshot(animations="disabled", **options))).convert("RGB")


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture with as many colours as MAX_BYTES allows. Raises SystemExit where 16 are too many."""
    for colours in (256, 128, 64, 32, 16):
        written = io.BytesIO()
        few = picture.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(written, "PNG", optimize=True)
        if written.tell() < MAX_BYTES:
            path.write_bytes(written.getvalue())
            return
    raise SystemExit(f"{path.name} does not fit into {MAX_BYTES:,} bytes: show less on it")


def join(left: Image.Image, right: Image.Image) -> Image.Image:
    """Return two pictures beside one another."""
    joined = Image.new("RGB", (left.width + GAP + right.width, left.height), "white")
    joined.paste(left, (0, 0))
    joined.paste(right, (left.width + GAP, 0))
    return joined


def take_pictures(browser: Any, address: str, out: Path) -> None:
    """Take those of the README: an answer and its page, the same on a phone, base and tuned side by side."""
    page = open_page(browser, address, "desk", scale=1.5)
    ask(page, REFUSED)  # the first one waits for the model to be read
    page.reload()
    page.locator("#about", has_text="document").wait_for()
    ask(page, ASKED)
    open_source(page)
    save(shoot(page), out / "answer.png")
    page.reload()
    page.locator("#about", has_text="document").wait_for()
    page.check("#compare")
    ask(page, COMPARED, answers=2)
    bottom = page.locator(".turn:first-child").bounding_box()
    save(shoot(page, clip={"x": 0, "y": 0, "width": SIZES["desk"][0], "height": bottom["y"] + bottom["height"] + 32}),
         out / "compare.png")
    page.context.close()
    page = open_page(browser, address, "phone", scale=2)
    ask(page, ASKED)
    answer = shoot(page)
    open_source(page)
    save(join(answer, shoot(page)), out / "phone.png")
    page.context.close()


def look(browser: Any, address: str, out: Path) -> None:
    """Take every view at both widths, light and dark."""
    for size in SIZES:
        for scheme in ("light", "dark"):
            page = open_page(browser, address, size, scheme)

            def keep(name: str, page: Any = page, start: str = f"{size}-{scheme}") -> None:
                shoot(page).save(out / f"{start}-{name}.png", optimize=True)

            keep("start")
            ask(page, ASKED)
            open_source(page)
            keep("source")
            page.get_by_role("button", name="As text").click()
            page.locator("#source mark").wait_for()
            keep("text")
            page.keyboard.press("Escape")
            page.locator(".turn:first-child summary").click()
            keep("answer")
            ask(page, REFUSED)
            keep("refused")
            page.click("#filter-button")
            page.fill("#where", "compny = 'Norvane'")
            page.press("#where", "Enter")
            page.locator("#filter-says.error").wait_for()
            keep("filter")
            page.locator(".chip").click()
            page.check("#compare")
            ask(page, COMPARED, answers=2)
            keep("compare")
            for view in ("documents", "jobs", "reports"):
                page.get_by_role("link", name=view.capitalize(), exact=True).click()
                page.locator(f"#view-{view} :is(.card, td, .empty, .error)").first.wait_for()
                keep(view)
            page.context.close()


def main() -> None:
    """Serve, look, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", dest="settings")
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder of the README's pictures")
    parser.add_argument("--look", type=Path, metavar="FOLDER", help="take every view instead, into this folder")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no chromium on PATH. Do: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    out: Path = arguments.look or arguments.out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        settings = [*arguments.settings, f"server.folder={folder}", "server.timeout_s=600"]
        server, thread, address = serve(load_recipe(arguments.recipe, settings))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        (look if arguments.look else take_pictures)(browser, address, out)
        browser.close()
        server.should_exit = True
        thread.join(30)
    for path in sorted(out.glob("*.png")):
        print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
