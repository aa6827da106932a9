"""The dependency descriptor (AV1 RTP specification, appendix A): which layer a packet belongs to and which decode targets need it.

The structure comes with key frames only and is needed for all that follows, so it is kept per stream. Input comes from the
network: whatever is cut short or refers to what is not there gives None.
"""

from dataclasses import dataclass

from qanun_telemedicine.sfu.payloads import MOST_LAYERS, Bits, Glance

MOST_TARGETS = 32
_MOST_TEMPLATES = 64
#: Indications of a frame for a decode target.
NOT_PRESENT, DISCARDABLE, SWITCH, REQUIRED = range(4)


@dataclass(slots=True)
class Structure:
    """The templates of a stream."""

    offset: int
    #: (spatial, temporal, indications by decode target) of each template.
    templates: list[tuple[int, int, tuple[int, ...]]]
    #: (spatial, temporal) that each decode target reaches.
    targets: list[tuple[int, int]]
    widths: tuple[int, ...] = ()
    #: Bit n: decode target n is sent at present.
    active: int = 0

    def target(self, spatial: int, temporal: int) -> int:
        """The decode target that is active and reaches farthest without going past these layers; the least when none does."""
        chosen, reached = -1, (-1, -1)
        for index, layers in enumerate(self.targets):
            if not self.active >> index & 1 or layers[0] > spatial or layers[1] > temporal:
                continue
            if layers > reached:
                chosen, reached = index, layers
        if chosen < 0:
            chosen = min(range(len(self.targets)), key=lambda index: (self.targets[index], index))
        return chosen


@dataclass(slots=True)
class Descriptor:
    """One packet's."""

    begins: bool
    ends: bool
    frame: int
    structure: Structure
    spatial: int
    temporal: int
    indications: tuple[int, ...]
    #: The structure came with this packet.
    attached: bool = False
    #: What it says is active from here on; None when it says nothing.
    active: int | None = None


def read(data: bytes, known: Structure | None) -> Descriptor | None:
    """The descriptor in `data`, with the structure that came before it."""
    if len(data) < 3:
        return None
    bits = Bits(data)
    begins, ends = bool(bits.take(1)), bool(bits.take(1))
    template = bits.take(6)
    frame = bits.take(16)
    attached = custom = False
    active: int | None = None
    structure = known
    if len(data) > 3:
        attached, told, custom = bool(bits.take(1)), bool(bits.take(1)), bool(bits.take(1))
        bits.take(2)
        if attached:
            structure = _structure(bits)
        if told and structure is not None:
            active = bits.take(len(structure.targets))
    if structure is None or bits.short:
        return None
    index = (template + 64 - structure.offset) % 64
    if index >= len(structure.templates):
        return None
    spatial, temporal, indications = structure.templates[index]
    if custom:
        indications = tuple(bits.take(2) for _ in structure.targets)
        if bits.short:
            return None
    return Descriptor(begins, ends, frame, structure, spatial, temporal, indications, attached, active)


def _structure(bits: Bits) -> Structure | None:
    offset, count = bits.take(6), bits.take(5) + 1
    layers: list[tuple[int, int]] = []
    spatial = temporal = 0
    while True:
        if len(layers) == _MOST_TEMPLATES or bits.short:
            return None
        layers.append((min(spatial, MOST_LAYERS - 1), min(temporal, MOST_LAYERS - 1)))
        step = bits.take(2)
        if step == 1:
            temporal += 1
        elif step == 2:
            spatial, temporal = spatial + 1, 0
        elif step == 3:
            break
    indications = [tuple(bits.take(2) for _ in range(count)) for _ in layers]
    for _ in layers:
        while bits.take(1):
            bits.take(4)
    chains = bits.nearly(count + 1)
    if chains:
        for _ in range(count):
            bits.nearly(chains)
        bits.take(4 * chains * len(layers))
    widths: list[int] = []
    if bits.take(1):
        for _ in range(spatial + 1):
            widths.append(bits.take(16) + 1 & 0xFFFF)
            bits.take(16)
    if bits.short:
        return None
    targets = []
    for target in range(count):
        reached = [layer for layer, told in zip(layers, indications, strict=True) if told[target] != NOT_PRESENT]
        targets.append((max((s for s, _ in reached), default=0), max((t for _, t in reached), default=0)))
    templates = [(*layer, told) for layer, told in zip(layers, indications, strict=True)]
    return Structure(offset, templates, targets, tuple(widths[:MOST_LAYERS]), (1 << count) - 1)


def glance(read_: Descriptor) -> Glance:
    """The same as other codecs' descriptors say it."""
    structure = read_.structure
    what = Glance(key=read_.attached and read_.begins)
    what.begins, what.ends = read_.begins, read_.ends
    what.spatial, what.temporal = read_.spatial, read_.temporal
    what.layered = len(structure.targets) > 1
    what.descriptor = read_
    if what.key:
        what.widths = structure.widths
        what.width = structure.widths[-1] if structure.widths else 0
    return what
