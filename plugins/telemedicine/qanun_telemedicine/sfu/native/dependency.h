/* The dependency descriptor (AV1 RTP specification, appendix A): dependency.py in C, to the letter. */

#define MOST_TARGETS 32
#define MOST_TEMPLATES 64
enum { NOT_PRESENT, DISCARDABLE, SWITCH, REQUIRED };

/* The templates of a stream, from its last key frame. */
struct structure {
    uint8_t offset, template_count, target_count, width_count;
    uint8_t spatial[MOST_TEMPLATES], temporal[MOST_TEMPLATES];
    uint8_t indications[MOST_TEMPLATES][MOST_TARGETS];
    uint8_t target_spatial[MOST_TARGETS], target_temporal[MOST_TARGETS];
    uint16_t widths[MOST_LAYERS];
    uint32_t active; /* bit n: decode target n is sent at present */
};

/* One packet's. */
struct descriptor {
    const struct structure *structure;
    bool begins, ends, attached, told;
    uint8_t spatial, temporal;
    uint16_t frame;
    uint32_t active;
    uint8_t indications[MOST_TARGETS];
};

/* The decode target that is active and reaches farthest without going past these layers; the least when none does. */
static int best_target(const struct structure *s, int spatial, int temporal) {
    int chosen = -1, reached = -1;
    for (int i = 0; i < s->target_count; i++) {
        int reaches = s->target_spatial[i] * 16 + s->target_temporal[i];
        if (!(s->active >> i & 1) || s->target_spatial[i] > spatial || s->target_temporal[i] > temporal) continue;
        if (reaches > reached) chosen = i, reached = reaches;
    }
    if (chosen >= 0) return chosen;
    for (int i = 0, least = 1 << 16; i < s->target_count; i++) {
        int reaches = s->target_spatial[i] * 16 + s->target_temporal[i];
        if (reaches < least) chosen = i, least = reaches;
    }
    return chosen;
}

static bool read_structure(struct bits *b, struct structure *s) {
    memset(s, 0, sizeof *s);
    s->offset = (uint8_t)take_bits(b, 6);
    s->target_count = (uint8_t)(take_bits(b, 5) + 1);
    uint32_t spatial = 0, temporal = 0, step = 0;
    while (step != 3) {
        if (s->template_count == MOST_TEMPLATES || b->lacks) return false;
        s->spatial[s->template_count] = least_layer(spatial);
        s->temporal[s->template_count++] = least_layer(temporal);
        step = take_bits(b, 2);
        if (step == 1) temporal++;
        if (step == 2) spatial++, temporal = 0;
    }
    for (int i = 0; i < s->template_count; i++)
        for (int k = 0; k < s->target_count; k++) {
            s->indications[i][k] = (uint8_t)take_bits(b, 2);
            if (!s->indications[i][k]) continue;
            if (s->spatial[i] > s->target_spatial[k]) s->target_spatial[k] = s->spatial[i];
            if (s->temporal[i] > s->target_temporal[k]) s->target_temporal[k] = s->temporal[i];
        }
    for (int i = 0; i < s->template_count; i++)
        while (take_bits(b, 1)) take_bits(b, 4);
    uint32_t chains = nearly(b, s->target_count + 1u);
    if (chains) {
        for (int i = 0; i < s->target_count; i++) nearly(b, chains);
        for (uint32_t i = 0; i < chains * s->template_count && !b->lacks; i++) take_bits(b, 4);
    }
    if (take_bits(b, 1))
        for (uint32_t i = 0; i <= spatial && !b->lacks; i++) {
            uint16_t width = (uint16_t)(take_bits(b, 16) + 1);
            if (i < MOST_LAYERS) s->widths[s->width_count++] = width;
            take_bits(b, 16);
        }
    s->active = s->target_count == 32 ? UINT32_MAX : (1u << s->target_count) - 1;
    return !b->lacks;
}

/* The descriptor in `data`, with the structure that came before it (or NULL); `fresh` is room for one that comes with it. */
static bool read_descriptor(struct descriptor *d, const uint8_t *data, uint32_t size, const struct structure *known,
                            struct structure *fresh) {
    if (size < 3) return false;
    struct bits b = {data, 0, 8 * size, false};
    bool custom = false, told = false;
    memset(d, 0, sizeof *d);
    d->begins = take_bits(&b, 1);
    d->ends = take_bits(&b, 1);
    uint32_t template = take_bits(&b, 6);
    d->frame = (uint16_t)take_bits(&b, 16);
    d->structure = known;
    if (size > 3) {
        d->attached = take_bits(&b, 1);
        told = take_bits(&b, 1);
        custom = take_bits(&b, 1);
        take_bits(&b, 2);
        if (d->attached) d->structure = read_structure(&b, fresh) ? fresh : NULL;
        if (told && d->structure) {
            d->told = true;
            d->active = take_bits(&b, d->structure->target_count);
        }
    }
    const struct structure *s = d->structure;
    if (!s || b.lacks) return false;
    uint32_t index = (template + 64 - s->offset) % 64;
    if (index >= s->template_count) return false;
    d->spatial = s->spatial[index];
    d->temporal = s->temporal[index];
    for (int i = 0; i < s->target_count; i++)
        d->indications[i] = custom ? (uint8_t)take_bits(&b, 2) : s->indications[index][i];
    return !b.lacks;
}

static struct look look_described(const struct descriptor *d) {
    const struct structure *s = d->structure;
    struct look w = {.valid = true, .key = d->attached && d->begins, .begins = d->begins, .ends = d->ends,
                     .spatial = d->spatial, .temporal = d->temporal, .layered = s->target_count > 1, .frame = d->frame};
    if (w.key) {
        w.width_count = s->width_count;
        memcpy(w.widths, s->widths, sizeof w.widths);
        if (s->width_count) w.width = s->widths[s->width_count - 1];
    }
    return w;
}
