"""ragtune launch-settings."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import click

from ragtune.errors import RunError

SETTINGS = {
    "ddp.yaml": "the whole model on each GPU",
    "fsdp2.yaml": "the model in parts on the GPUs (FSDP2)",
    "zero3.yaml": "the model in parts, by DeepSpeed ZeRO-3",
    "zero3.json": "DeepSpeed's own settings, for zero3.yaml and training.deepspeed",
}
"""The files that are shipped for accelerate, and what they are for."""


@click.command("launch-settings")
@click.option("--out", default=".", type=click.Path(path_type=Path), metavar="FOLDER", show_default=True,
              help="Where to write the files.")
def launch_settings(out: Path) -> None:
    """Write settings files with which accelerate starts `ragtune train` on several GPUs.

    Then: accelerate launch --config_file ddp.yaml --num_processes GPUS -m ragtune.cli.main train --recipe FILE
    """
    source = Path(str(resources.files("ragtune.training").joinpath("settings")))
    if there := [name for name in SETTINGS if (out / name).exists()]:
        raise RunError(f"{out / there[0]} is there already, and is not written over. Choose another place with --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, purpose in SETTINGS.items():
            shutil.copyfile(source / name, out / name)
            click.echo(f"{out / name}: {purpose}")
    except OSError as error:
        raise RunError(f"cannot write to {out}: {error.strerror}. Choose another place with --out.") from error
