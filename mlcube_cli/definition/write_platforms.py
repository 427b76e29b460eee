"""A platform's options as another dialect has to state them: what one sets by itself, the other must spell out. Pure."""

from __future__ import annotations

import os

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.model import Cube, Platform
from mlcube_cli.definition.options import dialect_defaults
from mlcube_cli.definition.platforms import CARRIERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlcube_cli.definition.model import Data

BUILD = ("build_strategy", "build_context", "build_file")
# What the singularity runner takes for granted where nothing is stated (spec/dialects 2.5, 2.7, 3.9).
_SINGULARITY: Mapping[str, Mapping[str, str]] = {
    "directory": {"build_context": "build", "build_file": "Singularity.recipe", "image_dir": "."},
    "inline": {"build_context": ".", "build_file": "Singularity.recipe", "image_dir": ".image"},
}


def written_options(cube: Cube, platform: Platform, target: str, is_file: Callable[[str], bool]) -> dict[str, Data]:
    """The options that a definition in the dialect `target` states: those of the cube's own definition, and what its dialect
    sets otherwise than `target` does, as far as it has an effect."""
    written = _stated(cube, platform)
    theirs = _defaults(target, cube, platform)
    for name, value in _defaults(cube.dialect, cube, platform).items():
        if name not in written and theirs.get(name) != value and _matters(name, cube, platform, target, is_file):
            written[name] = value
    return written


def option_meaning(cube: Cube, platform: Platform, ignored: Callable[[str], bool]) -> dict[str, Data]:
    """All options that count, stated or not; `ignored` says which ones count only where they are stated."""
    defaults = {name: value for name, value in _defaults(cube.dialect, cube, platform).items() if not ignored(name)}
    return {**defaults, **_stated(cube, platform)}


def has_no_effect(whole: Cube, target: str, is_file: Callable[[str], bool]) -> Callable[[str, str], bool]:
    """Whether a platform's option that nobody states has no effect: (platform, option) -> bool."""
    platforms = {platform.name: platform for platform in whole.platforms}

    def ignored(platform: str, option: str) -> bool:
        known = platforms.get(platform)
        return known is not None and not _matters(option, whole, known, target, is_file)

    return ignored


def _stated(cube: Cube, platform: Platform) -> dict[str, Data]:
    """What the definition says, such that it reads back as the same; what runs inside by a name, which every dialect knows."""
    stated = {option.name: option.value for option in platform.options if option.origin != "default"}
    if platform.runner not in CARRIERS:
        return stated
    inside = str(stated.get("platform") or "")
    name = os.path.splitext(os.path.basename(inside))[0]
    if inside.endswith((".yaml", ".yml")) and cube.platform(inside) is None and cube.platform(name) is not None:
        stated["platform"] = name
    if platform.runner == "slurm":
        from mlcube_cli.definition.slurm_options import written_slurm

        stated = {name: written_slurm(name, value) for name, value in stated.items()}
    return stated


def _defaults(dialect: str, cube: Cube, platform: Platform) -> Mapping[str, str]:
    """What the dialect sets on this platform, and what its runner does where that is silent. The singularity runner goes by
    the calling convention."""
    silent = _SINGULARITY.get(dialect, {}) if platform.runner == "singularity" and cube.calling != "mlbox" else {}
    return {**silent, **dialect_defaults(dialect, platform.runner)}


def _matters(name: str, cube: Cube, platform: Platform, target: str, is_file: Callable[[str], bool]) -> bool:
    """Does a default have an effect: build options where there is a build file by either dialect's rules, or one is named;
    `image_dir` where the image's name is relative to it."""
    stated = _stated(cube, platform)
    if name == "image_dir":
        image = str(stated.get("image") or "")
        return bool(image) and image[0] not in "/~$" and ":" not in image
    if name not in BUILD:
        return True
    if platform.runner == "singularity" and (name == "build_context" or cube.calling == "mlbox"):
        return True  # every build starts in the context; an MLBox's image lies beside its build file
    own, theirs = ({**_defaults(dialect, cube, platform), **stated} for dialect in (cube.dialect, target))
    return bool({"build_context", "build_file"} & set(stated)) or is_file(_build_file(own)) or is_file(_build_file(theirs))


def _build_file(options: Mapping[str, Data]) -> str:
    return os.path.normpath(os.path.join(str(options.get("build_context") or "."), str(options.get("build_file") or ".")))
