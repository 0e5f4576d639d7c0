"""Headers of one study -> its series.

The slices of one series may be dealt to several UIDs. A series may hold several echoes or repeats, duplicates or a
stray slice. Every decision that a reader would want to know of becomes a remark.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from shared.dicom.grouping.dealing import acquired, complement, folder_name, position_of, tie
from shared.dicom.header import Header
from shared.dicom.views import MIN_SLICES, SeriesFacts, other_picture, shows_diffusion
from shared.geometry import dominant_axis
from shared.runtime.names import masked, order_of
from shared.runtime.problems import counted

# A slice belongs to a series when its normal is nearer than this to the axis that most of its slices face. The blocks
# of an axial series follow the discs, and the last one may be steeper than 45 degrees.
_STEEPEST_DEG: Final = 65.0
# Echo times nearer than this are one echo.
_SAME_ECHO_MS: Final = 3.0
# Repetition times that differ by less than this factor are one: scanners fit it to the number of slices.
_SAME_REPETITION: Final = 1.25
# Fields and pixels that differ by less than this factor are of one size.
_SAME_SIZE: Final = 1.25
# More parts than this are not tried against each other one by one.
_MAX_PARTS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderGroup:
    """Headers that make up one series.

    Attributes:
      remarks: what was put together, split or left out, in words.
    """

    series_id: str
    headers: tuple[Header, ...]
    remarks: tuple[str, ...] = ()

    @property
    def facts(self) -> SeriesFacts:
        axis = Counter(dominant_axis(h.plane) for h in self.headers).most_common(1)[0][0]
        field_mm = float(np.median([max(_field_mm(h)) for h in self.headers]))
        return SeriesFacts(
            acquisitions=[h.acquisition for h in self.headers], axis=axis, field_mm=field_mm,
            facing=sum(_faces(h, axis) for h in self.headers) / len(self.headers),
            positions=len(set(map(position_of, self.headers))),
        )  # fmt: skip

    def with_(self, headers: Iterable[Header], remark: str) -> "HeaderGroup":
        """The series with these headers, and one remark more."""
        return replace(self, headers=tuple(headers), remarks=(*self.remarks, remark))


def group_by_series(root: Path, headers: Sequence[Header]) -> list[HeaderGroup]:
    """The series of one study."""
    by_uid: dict[str, list[Header]] = defaultdict(list)
    for header in sorted(
        headers, key=lambda h: (h.instance_number, h.plane.origin_mm, h.sop_uid or "", order_of(h.path), h.frame)
    ):
        by_uid[header.series_uid or folder_name(root, header.path.parent)].append(header)
    parts = [
        part
        for group in _joined_series(by_uid)
        for acquisition in _split_by_acquisition(group)
        for repeat in _split_repeats(acquisition)
        for pictures in _split_other_pictures(repeat)
        for part in _split_by_axis(_without_displaced(pictures))
    ]
    return sorted(map(_without_duplicates, _with_whole_localizers(parts)), key=lambda g: g.series_id)


def _joined_series(by_uid: Mapping[str, list[Header]]) -> list[HeaderGroup]:
    """Series, those put together that hold the slices of one acquisition."""
    alike: dict[Hashable, list[str]] = defaultdict(list)
    for uid, own in sorted(by_uid.items()):
        alike[tie(own[0])].append(uid)
    groups = []
    for uids in alike.values():
        short = [uid for uid in uids if len(by_uid[uid]) < MIN_SLICES]
        if len(short) < len(uids) and complement([by_uid[uid] for uid in uids]):
            clusters = [uids]
        else:  # a UID per slice or per block is an exporter's habit, so short series need no other sign
            clusters = [*_complements([uid for uid in uids if uid not in short], by_uid), *([short] if short else [])]
        for cluster in clusters:
            what = "short series" if cluster == short else "series"
            remarks = (f"{len(cluster)} {what} of one acquisition were put together",) if len(cluster) > 1 else ()
            headers = tuple(h for uid in cluster for h in by_uid[uid])
            groups.append(HeaderGroup(series_id=cluster[0], headers=headers, remarks=remarks))
    return groups


def _complements(uids: Sequence[str], by_uid: Mapping[str, list[Header]]) -> list[list[str]]:
    """Series alike, in clusters whose slices complement each other."""
    clusters: list[list[str]] = []
    for uid in uids:
        near = clusters if len(uids) <= _MAX_PARTS else []
        fitting = next((c for c in near if complement([by_uid[u] for u in (*c, uid)])), None)
        if fitting is None:
            clusters.append([uid])
        else:
            fitting.append(uid)
    return clusters


def _split_by_acquisition(group: HeaderGroup) -> list[HeaderGroup]:
    """One group per acquisition, where a series holds several whole ones: echoes, or series joined under one UID."""
    echo_of = _nearby([h.acquisition.echo_ms for h in group.headers], lambda a, b: b - a <= _SAME_ECHO_MS)
    repetition_of = _nearby(
        [h.acquisition.repetition_ms for h in group.headers], lambda a, b: b <= a * _SAME_REPETITION
    )
    by_kind: dict[Hashable, list[Header]] = defaultdict(list)
    for h in group.headers:
        echo, repetition = echo_of[h.acquisition.echo_ms], repetition_of[h.acquisition.repetition_ms]
        others = (h.description, h.acquisition.sequence, h.shape, round(h.plane.spacing_mm[0], 2))
        by_kind[(echo, repetition, *others)].append(h)
    whole = [kind for kind, own in by_kind.items() if len(own) >= MIN_SLICES]
    if len(whole) < 2:
        return [group]
    few = [h for kind, own in by_kind.items() if kind not in whole for h in own]
    parts = [by_kind[kind] for kind in sorted(whole, key=str)] + ([few] if few else [])
    what = "echoes" if len({kind[1:] for kind in by_kind if isinstance(kind, tuple)}) == 1 else "acquisitions"
    return _numbered(group, parts, f"it holds {len(by_kind)} {what}")


def _nearby(values: Iterable[float | None], near: Callable[[float, float], bool]) -> dict[float | None, float | None]:
    """Value -> the smallest of the run of near values that it belongs to; None belongs to itself."""
    runs: dict[float | None, float | None] = {None: None}
    last = None
    for value in sorted({v for v in values if v is not None}):
        runs[value] = runs[last] if last is not None and near(last, value) else value
        last = value
    return runs


def _split_repeats(group: HeaderGroup) -> list[HeaderGroup]:
    """One group per kind of picture or acquisition, where a series holds several whole ones at the same positions."""
    if 2 * len(set(map(position_of, group.headers))) > len(group.headers) + MIN_SLICES or _is_diffusion(group):
        return [group]
    kinds: tuple[tuple[str, Callable[[Header], Hashable]], ...] = (
        ("kinds of picture", lambda h: h.acquisition.image_type),
        ("acquisitions", lambda h: h.moment.acquisition_number),
        ("acquisitions", lambda h: h.moment.series_number),
    )
    for what, kind in kinds:
        by_kind: dict[Hashable, list[Header]] = defaultdict(list)
        for header in group.headers:
            by_kind[kind(header)].append(header)
        whole = all(MIN_SLICES <= len(own) == len(set(map(position_of, own))) for own in by_kind.values())
        if len(by_kind) > 1 and whole:
            ordered = [own for _, own in sorted(by_kind.items(), key=lambda item: str(item[0]))]
            return _numbered(group, ordered, f"it holds {len(by_kind)} {what} of the same slices")
    return [group]


def _numbered(group: HeaderGroup, parts: Sequence[Sequence[Header]], remark: str) -> list[HeaderGroup]:
    return [
        replace(group, series_id=f"{group.series_id}.{n}").with_(own, f"{remark}, which were told apart")
        for n, own in enumerate(parts, start=1)
    ]


def _split_other_pictures(group: HeaderGroup) -> list[HeaderGroup]:
    """The series without a few slices that are no MR pictures of anatomy; two groups where there are many of them."""
    kept = [h for h in group.headers if not other_picture(h.acquisition)]
    others = [h for h in group.headers if other_picture(h.acquisition)]
    if not others or len(kept) < MIN_SLICES or _is_diffusion(group):
        return [group]
    if len(others) >= MIN_SLICES:
        return _numbered(group, [kept, others], "it holds pictures of anatomy and others")
    names = ", ".join(sorted({masked(h.path.name) for h in others})[:3])
    return [
        group.with_(kept, f"{len(others)} slice(s) were left out ({names}): {other_picture(others[0].acquisition)}")
    ]


def _is_diffusion(group: HeaderGroup) -> bool:
    return shows_diffusion([h.acquisition for h in group.headers])


def _without_displaced(group: HeaderGroup) -> HeaderGroup:
    """The series without a few slices that are of another size or lie beside most others, as placeholders put them.

    Axial blocks that follow the discs are shifted against each other, so theirs must lie wholly beside.
    """
    centers = np.array([h.plane.center_mm(h.shape) for h in group.headers])
    off = centers - np.median(centers, axis=0)
    part = 0.5 if group.facts.axis == 0 else 1.0
    usual = np.median([(*_field_mm(h), *h.plane.spacing_mm) for h in group.headers], axis=0)
    displaced: list[Header] = []
    kept: list[Header] = []
    for h, d in zip(group.headers, off, strict=True):
        height, width = _field_mm(h)
        beside = abs(d @ h.plane.col_dir) > part * height or abs(d @ h.plane.row_dir) > part * width
        # A crop keeps the size of its pixels, another matrix that of the field.
        scaled = np.abs(np.log(np.array((height, width, *h.plane.spacing_mm)) / usual)).min() > np.log(_SAME_SIZE)
        (displaced if beside or scaled else kept).append(h)
    if not displaced or len(displaced) > len(group.headers) // 4:
        return group
    names = ", ".join(sorted({masked(h.path.name) for h in displaced})[:3])
    return group.with_(
        kept, f"{len(displaced)} slice(s) that lie beside all others or are of another size were left out ({names})"
    )


def _field_mm(header: Header) -> tuple[float, float]:
    """Height and width of the picture."""
    return header.shape[0] * header.plane.spacing_mm[0], header.shape[1] * header.plane.spacing_mm[1]


def _split_by_axis(group: HeaderGroup) -> list[HeaderGroup]:
    """The series without a few slices that face another way than most; one group per axis where whole stacks do.

    All three planes in one acquisition are a localizer and stay together.
    """
    facing = _by_axis(group.headers)
    kept, strays = facing[0], [h for part in facing[1:] for h in part]
    if not strays or len(kept) < MIN_SLICES:
        return [group]
    if len(strays) > len(kept) // 4:
        whole = min(map(len, facing)) >= MIN_SLICES and len(facing) < 3
        return _numbered(group, facing, f"it holds {counted(len(facing), 'orientation')}") if whole else [group]
    names = ", ".join(sorted({masked(h.path.name) for h in strays})[:3])
    return [group.with_(kept, f"{len(strays)} slice(s) that face another way were left out ({names})")]


def _by_axis(headers: Iterable[Header]) -> list[list[Header]]:
    """The headers that face the commonest axis, then of the others those that face theirs, and so on."""
    parts: list[list[Header]] = []
    rest = list(headers)
    while rest:
        axis = Counter(dominant_axis(h.plane) for h in rest).most_common(1)[0][0]
        near = [_faces(h, axis) for h in rest]
        parts.append([h for h, is_near in zip(rest, near, strict=True) if is_near])
        rest = [h for h, is_near in zip(rest, near, strict=True) if not is_near]
    return parts


def _with_whole_localizers(groups: Sequence[HeaderGroup]) -> list[HeaderGroup]:
    """The series, three planes of one acquisition put together: a localizer whose planes have UIDs of their own."""
    alike: dict[Hashable, list[HeaderGroup]] = defaultdict(list)
    for group in groups:
        alike[acquired(group.headers[0])].append(group)
    whole = []
    for same in alike.values():
        if {group.facts.axis for group in same} < {0, 1, 2}:
            whole += same
        else:
            headers = [header for group in same for header in group.headers]
            whole.append(same[0].with_(headers, f"{len(same)} series show three planes of one acquisition"))
    return whole


def _faces(header: Header, axis: int) -> bool:
    return bool(abs(header.plane.normal[axis]) >= np.cos(np.radians(_STEEPEST_DEG)))


def _without_duplicates(group: HeaderGroup) -> HeaderGroup:
    """The series with one slice per position, the latest; a series at one position alone stays as it is."""
    latest: dict[Hashable, Header] = {}
    for header in group.headers:
        place = position_of(header)
        if place not in latest or _age(header) > _age(latest[place]):
            latest[place] = header
    doubles = len(group.headers) - len(latest)
    if not doubles or len(latest) == 1 or _is_diffusion(group):
        return group
    return group.with_(latest.values(), f"{doubles} slice(s) at the position of another one were left out")


def _age(header: Header) -> tuple[float, int]:
    return header.moment.time_s or 0.0, header.moment.acquisition_number or 0
