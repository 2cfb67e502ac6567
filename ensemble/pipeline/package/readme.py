"""The page that a package brings along."""

from ensemble.pipeline.package.contents import Contents

TEXT = """# {candidate}

A frozen segmentation candidate: labels new pictures just as the run did that it was made in.
With `ens` installed:

    ens apply THIS_FOLDER PICTURES --out LABELS

PICTURES: a folder of `.png` or `.jpg` files, a `.npy` or a `.npz`;
{rows} x {cols} pixels, {channels} channel(s) of 8 bits.
LABELS: a `.npy` (picture, row, col), or a folder that gets one PNG a picture.

| label | class | colour |
|---|---|---|
{classes}

Members, each the mean of {folds} models: {members}.
Fused by: {strategy}. Post-processed by: {chain}.

`package.json` says all of it for programs, with the SHA-256 of every file.
"""


def readme(contents: Contents) -> str:
    """Return the page, as Markdown."""
    known = contents.classes
    rows = enumerate(zip(known["names"], known["colours"], strict=True))
    ignored = known["ignore"]
    return TEXT.format(
        candidate=contents.candidate,
        rows=contents.shape[0],
        cols=contents.shape[1],
        channels=contents.channels,
        classes="\n".join(
            f"| {label} | {name}{' (not scored)' if label == ignored else ''} | {colour} |"
            for label, (name, colour) in rows
        ),
        folds=contents.folds,
        members=", ".join(f"{name} (`{r.architecture}`)" for name, r in contents.members.items()),
        strategy=f"`{contents.strategy}`" if contents.strategy else "nothing, there is one member",
        chain=f"`{contents.chain}`" if contents.chain else "the plain argmax",
    )
