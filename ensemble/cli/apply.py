"""`ens apply`: label new images with a frozen candidate."""

from pathlib import Path

import click

from ensemble.cli.options import (
    FILE,
    json_option,
    label_options,
    layout_options,
    log,
    memory_option,
    print_result,
)
from evaluation.core.label_options import LabelOptions
from members.data.layouts import LayoutOptions


@click.command("apply")
@click.argument("package", type=FILE, metavar="PACKAGE")
@click.argument("source", type=FILE, metavar="IMAGES")
@click.option("--out", required=True, type=FILE, metavar="F", help="A .npy file, or a new folder.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:K.")
@label_options
@layout_options
@memory_option
@json_option
def command(
    package: Path,
    source: Path,
    out: Path,
    device: str,
    labels: LabelOptions,
    layout: LayoutOptions,
    as_json: bool,
) -> None:
    """Label IMAGES with the candidate frozen in PACKAGE, a folder or an .onnx file.

    IMAGES is a folder of images (.png, .jpg, .webp, .bmp, .tif or .npy, turned by their EXIF
    orientation), a .npy or a .npz. A folder as --out gets one PNG per image; a .npy gets all label
    maps, in the order of the images' names. Options about classes must say what the package's
    training set says.
    """
    from ensemble.pipeline.package.apply import apply_package

    result = apply_package(
        package, source, out, device=device, labels=labels, layout=layout, log=log
    )
    print_result(f"{out}: {result.images} label maps", result.to_dict(), as_json=as_json)
