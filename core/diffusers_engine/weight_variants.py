"""Variants of weight files, e.g. the file model.fp16.safetensors, which `from_pretrained(variant="fp16")` loads."""

import re
from collections.abc import Collection, Iterable, Mapping

from codec_wire.errors import ModelLoadError

_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)"
    r"(?:\.(?P<variant>[\w-]+?))?"
    r"(?:-\d{5}-of-\d{5})?"
    r"(?:\.(?P<variant_after_part>[\w-]+))?"  # how older releases of diffusers named the parts of a variant
    r"\.(?P<format>safetensors|bin)"
)


def variants_of_files(names: Iterable[str], *, allow_pickle: bool) -> frozenset[str | None]:
    """Return the variants of the weight files `names`. The file names in `names` must not contain a folder.

    The element None in the returned set means the default weights. Files that are not safetensors are ignored unless
    `allow_pickle` is set.
    """
    matches = (_WEIGHTS.fullmatch(name) for name in names)
    return frozenset(
        match["variant"] or match["variant_after_part"]
        for match in matches
        if match and (allow_pickle or match["format"] == "safetensors")
    )


def choose_variant(
    label: str, paths: Iterable[str], components: Collection[str], requested: str | None, *, allow_pickle: bool
) -> str | None:
    """Return the variant of the model called `label` that must be loaded, or None for the default weights.

    `paths` contains the paths of the model's files, relative to the directory of the model and written with slashes.
    `components` contains the folders from which weights are loaded. If `requested` is not None, `requested` is
    returned. Without `requested`, the default weights are selected. If `requested` is None and the model has no default
    weights, the only variant that has all weights is selected. A component without the selected variant is loaded from
    the default weights of the component, as in diffusers. Raises ModelLoadError if the variant `requested` does not
    exist. The ModelLoadError names the variants that exist. Raises ModelLoadError if `requested` is None and the model
    has several variants but no default weights.
    """
    files: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        if folder in components:
            files.setdefault(folder, []).append(name)
    folders = {folder: variants_of_files(names, allow_pickle=allow_pickle) for folder, names in files.items()}
    return _choose(label, {folder: found for folder, found in folders.items() if found}, requested)


def _choose(label: str, folders: Mapping[str, frozenset[str | None]], requested: str | None) -> str | None:
    existing = sorted({name for found in folders.values() for name in found if name is not None})
    if requested is not None:
        if requested not in existing:
            variants = ", ".join(existing)
            known = f"the variants are {variants}" if existing else "the model has no variants; remove --variant"
            raise ModelLoadError(f"{label} has no weights of the variant {requested!r} (--variant): {known}")
        return requested
    if all(None in found for found in folders.values()):
        return None
    complete = [name for name in existing if all(found & {name, None} for found in folders.values())]
    if len(complete) > 1:
        raise ModelLoadError(
            f"{label} has no default weights, only the variants {', '.join(complete)}; choose one with --variant "
            "(CODEC_VARIANT)"
        )
    return complete[0] if complete else None  # from_pretrained reports which weights are missing
