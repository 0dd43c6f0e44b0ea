"""The command line: `amity demo`, `amity info`, `amity cache`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import amity
from amity.cli import cache, demo, info


def at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {value}; expected 1 or more")
    return value


def add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("demo", help="train a small CNN on real images")
    parser.set_defaults(run=demo.run)
    parser.add_argument(
        "--dataset",
        choices=("auto", "fashion-mnist", "digits"),
        default="auto",
        help="auto: Fashion-MNIST if it is there, else the digits that come with amity",
    )
    parser.add_argument("--data", type=Path, metavar="PATH", help="a folder with Fashion-MNIST")
    parser.add_argument(
        "--download", action="store_true", help="fetch Fashion-MNIST into the cache if missing"
    )
    parser.add_argument("--epochs", type=at_least_one, metavar="N", help="times over the images")
    parser.add_argument("--batch-size", type=at_least_one, metavar="N", help="images a step")
    parser.add_argument(
        "--compile", action="store_true", help="train eagerly, then compiled, and compare"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("amity-demo"), metavar="DIR", help="(default amity-demo)"
    )
    parser.add_argument("--quiet", action="store_true", help="only print the result")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="amity", description="A small deep-learning framework in pure Python."
    )
    parser.add_argument("--version", action="version", version=f"amity {amity.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_demo(commands)
    show = commands.add_parser("info", help="the machine and the versions, as amity sees them")
    show.set_defaults(run=info.run)
    keep = commands.add_parser("cache", help="show or clear the kernels kept on disk")
    keep.add_argument("action", nargs="?", choices=("show", "clear"), default="show")
    keep.set_defaults(run=cache.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    options = build_parser().parse_args(argv)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
