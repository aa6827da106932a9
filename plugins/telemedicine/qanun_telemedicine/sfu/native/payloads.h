/* What the beginning of an RTP payload says of the picture in it: payloads.py in C, to the letter.
 *
 * Input comes from the network. Nothing here allocates or reads outside of what it was given. */

/* In the order of payloads.CODECS. */
enum { OPUS, VP8, VP9, AV1, H264, H264_HIGH, CODECS };

static bool is_scalable(uint8_t codec) { return codec == VP9 || codec == AV1; }

static struct look read_vp8(const uint8_t *payload, uint32_t size) {
    struct look w = {0}, none = {0};
    if (size < 1) return none;
    uint32_t at = 1;
    if (payload[0] & 0x80) {
        if (size < 2) return none;
        uint8_t present = payload[1];
        at = 2;
        if (present & 0x80) {
            if (size <= at) return none;
            w.picture_at = (uint8_t)at;
            w.picture_long = payload[at] > 127;
            at += w.picture_long ? 2 : 1;
        }
        if (present & 0x40) w.tl0_at = (uint8_t)at++;
        if (present & 0x30) at++;
        if (at > size) return none;
    }
    w.valid = true;
    if ((payload[0] & 0x17) == 0x10 && size > at && !(payload[at] & 1)) {
        /* RFC 6386, 9.1: three bytes of frame tag, a start code, then 14 bits of width. */
        w.key = size >= at + 10 && payload[at + 3] == 0x9d && payload[at + 4] == 0x01 && payload[at + 5] == 0x2a;
        if (w.key) w.width = (payload[at + 6] | payload[at + 7] << 8) & 0x3FFF;
    }
    return w;
}

static uint8_t least_layer(uint32_t layer) { return (uint8_t)(layer < MOST_LAYERS ? layer : MOST_LAYERS - 1); }

static struct look read_vp9(const uint8_t *payload, uint32_t size) {
    struct look w = {0}, none = {0};
    if (size < 1) return none;
    uint8_t first = payload[0];
    uint32_t at = 1, spatial = 0;
    if (first & 0x80) {
        if (size <= at) return none;
        w.picture_at = (uint8_t)at;
        w.picture_long = payload[at] > 127;
        at += w.picture_long ? 2 : 1;
    }
    if (first & 0x20) {
        if (size <= at) return none;
        uint8_t layer = payload[at++];
        spatial = layer >> 1 & 7;
        w.layered = true;
        w.up = layer & 0x10;
        w.temporal = least_layer(layer >> 5);
        w.spatial = least_layer(spatial);
        if (!(first & 0x10)) w.tl0_at = (uint8_t)at++;
    }
    if ((first & 0x50) == 0x50)
        for (int i = 0; i < 3; i++) {
            if (size <= at) return none;
            if (!(payload[at++] & 1)) break;
        }
    if (first & 0x02) {
        if (size <= at) return none;
        uint8_t head = payload[at++];
        if (head & 0x10) {
            uint32_t layers = (head >> 5) + 1u;
            if (at + 4 * layers > size) return none;
            for (uint32_t i = 0; i < layers; i++) {
                w.width = get16(payload + at + 4 * i);
                if (i < MOST_LAYERS) w.widths[w.width_count++] = w.width;
            }
            at += 4 * layers;
        }
        if (head & 0x08) {
            if (size <= at) return none;
            for (uint32_t pictures = payload[at++]; pictures; pictures--) {
                if (size <= at) return none;
                at += 1u + (payload[at] >> 2 & 3);
            }
        }
    }
    if (at > size) return none;
    w.valid = true;
    w.begins = first & 0x08;
    w.ends = first & 0x04;
    w.predicted = first & 0x40;
    w.key = w.begins && !w.predicted && !spatial;
    return w;
}

/* Reads bit by bit; past the end everything is zero and `lacks` is set. */
struct bits {
    const uint8_t *data;
    uint32_t at, end; /* in bits */
    bool lacks;
};

static uint32_t take_bits(struct bits *b, uint32_t count) {
    uint32_t value = 0;
    for (; count; count--) {
        if (b->at >= b->end) {
            b->lacks = true;
            return 0;
        }
        value = value << 1 | (b->data[b->at >> 3] >> (7 - (b->at & 7)) & 1u);
        b->at++;
    }
    return value;
}

static uint32_t exp_golomb(struct bits *b) {
    uint32_t zeros = 0;
    while (!take_bits(b, 1))
        if (++zeros > 31 || b->lacks) {
            b->lacks = true;
            return 0;
        }
    return ((1u << zeros) - 1) + take_bits(b, zeros);
}

static int64_t signed_golomb(struct bits *b) {
    int64_t value = exp_golomb(b);
    return value & 1 ? (value + 1) / 2 : -(value / 2);
}

/* A number below `most` in as few bits as it takes. */
static uint32_t nearly(struct bits *b, uint32_t most) {
    uint32_t width = 0;
    for (uint32_t left = most; left; left >>= 1) width++;
    uint32_t shorter = (1u << width) - most, value = take_bits(b, width - 1);
    return value < shorter ? value : (value << 1) - shorter + take_bits(b, 1);
}

static void skip_scaling(struct bits *b, int size) {
    int64_t last = 8, following = 8;
    for (; size; size--) {
        if (following) following = (last + signed_golomb(b)) & 255;
        if (following) last = following;
    }
}

#define SPS_MOST 128
/* The width of a sequence parameter set (H.264, 7.3.2.1.1); 0 when it is unreadable. */
static uint16_t sps_width(const uint8_t *nal, uint32_t size) {
    uint8_t plain[SPS_MOST];
    uint32_t count = 0, zeros = 0;
    for (uint32_t i = 0; i < size && i < SPS_MOST; i++) {
        if (zeros >= 2 && nal[i] == 3) {
            zeros = 0; /* emulation prevention */
            continue;
        }
        zeros = nal[i] ? 0 : zeros + 1;
        plain[count++] = nal[i];
    }
    if (count < 5) return 0;
    struct bits b = {plain, 32, 8 * count, false};
    exp_golomb(&b);
    uint32_t chroma = 1;
    static const uint8_t with_chroma[] = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244};
    if (memchr(with_chroma, plain[1], sizeof with_chroma)) {
        chroma = exp_golomb(&b);
        if (chroma == 3) take_bits(&b, 1);
        exp_golomb(&b);
        exp_golomb(&b);
        take_bits(&b, 1);
        if (take_bits(&b, 1))
            for (int i = 0; i < (chroma == 3 ? 12 : 8); i++)
                if (take_bits(&b, 1)) skip_scaling(&b, i < 6 ? 16 : 64);
    }
    exp_golomb(&b);
    uint32_t order = exp_golomb(&b);
    if (order == 0)
        exp_golomb(&b);
    else if (order == 1) {
        take_bits(&b, 1);
        exp_golomb(&b);
        exp_golomb(&b);
        uint32_t cycle = exp_golomb(&b);
        for (uint32_t i = 0; i < cycle && i < 255; i++) exp_golomb(&b);
    }
    exp_golomb(&b);
    take_bits(&b, 1);
    int64_t wide = (int64_t)exp_golomb(&b) + 1, high = (int64_t)exp_golomb(&b) + 1;
    uint32_t frames_only = take_bits(&b, 1);
    if (!frames_only) take_bits(&b, 1);
    take_bits(&b, 1);
    int64_t cropped[4] = {0};
    if (take_bits(&b, 1))
        for (int i = 0; i < 4; i++) cropped[i] = exp_golomb(&b);
    if (b.lacks || chroma > 3 || wide > 1024 || high > 1024) return 0;
    int64_t across = chroma == 1 || chroma == 2 ? 2 : 1, down = (chroma == 1 ? 2 : 1) * (2 - (int64_t)frames_only);
    int64_t width = wide * 16 - across * (cropped[0] + cropped[1]);
    int64_t height = high * 16 * (2 - (int64_t)frames_only) - down * (cropped[2] + cropped[3]);
    return width > 0 && height > 0 ? (uint16_t)width : 0;
}

static struct look read_h264(const uint8_t *payload, uint32_t size) {
    enum { SPS = 7, STAP_A = 24, FU_A = 28 };
    struct look w = {0};
    const uint8_t *sps = NULL;
    uint32_t length = 0;
    if (size < 1) return w;
    uint8_t kind = payload[0] & 31;
    if (kind == SPS) {
        sps = payload;
        length = size;
    } else if (kind == FU_A) {
        if (size > 1 && (payload[1] & 0x9F) == (0x80 | SPS)) {
            sps = payload + 1;
            length = size - 1;
        }
    } else if (kind == STAP_A) {
        for (uint32_t at = 1; at + 2 < size;) {
            uint32_t one = get16(payload + at);
            at += 2;
            if (!one || at + one > size) break;
            if ((payload[at] & 31) == SPS) {
                sps = payload + at;
                length = one;
                break;
            }
            at += one;
        }
    }
    if (sps) {
        w.valid = w.key = true;
        w.width = sps_width(sps, length);
    }
    return w;
}

/* By the aggregation header alone: whether a coded video sequence begins here. */
static struct look read_av1(const uint8_t *payload, uint32_t size) {
    struct look w = {0};
    w.valid = w.key = size && (payload[0] & 0x88) == 0x08;
    return w;
}

static struct look read_payload(uint8_t codec, const uint8_t *payload, uint32_t size) {
    struct look none = {0};
    switch (codec) {
    case VP8: return read_vp8(payload, size);
    case VP9: return read_vp9(payload, size);
    case AV1: return read_av1(payload, size);
    case H264: case H264_HIGH: return read_h264(payload, size);
    default: return none;
    }
}

static const struct look *look_of(struct packet *p, uint8_t codec) {
    if (!p->looked) {
        p->look = read_payload(codec, p->payload, p->payload_size);
        p->looked = true;
    }
    return &p->look;
}

/* Picture id, TL0PICIDX and frame number; false when nothing can be said. */
static bool numbers_of(struct packet *p, uint8_t codec, int32_t numbers[3]) {
    const struct look *w = look_of(p, codec);
    numbers[0] = numbers[1] = numbers[2] = 0;
    if (!w->valid) return false;
    if (w->picture_at)
        numbers[0] = w->picture_long ? get16(p->payload + w->picture_at) & 0x7FFF : p->payload[w->picture_at];
    if (w->tl0_at) numbers[1] = p->payload[w->tl0_at];
    numbers[2] = w->frame;
    return true;
}

/* Move picture id and TL0PICIDX of the copy at `to`, as if the streams that were joined were one. */
static void shift_numbers(uint8_t *to, const struct look *w, int32_t picture, int32_t tl0) {
    if (!w->valid) return;
    if (w->picture_at) {
        uint8_t *at = to + w->picture_at;
        if (w->picture_long)
            put16(at, 0x8000u | (((uint32_t)(get16(at) & 0x7FFF) + (uint32_t)picture) & 0x7FFF));
        else
            *at = (uint8_t)((*at + picture) & 0x7F);
    }
    if (w->tl0_at) to[w->tl0_at] = (uint8_t)(to[w->tl0_at] + tl0);
}

/* Where the primary encoding of a RED payload begins (RFC 2198); 0 when it is none. */
static uint16_t red_primary(const uint8_t *payload, uint32_t size) {
    uint32_t at = 0, older = 0;
    while (at < size && payload[at] & 0x80) {
        if (at + 4 > size) return 0;
        older += get16(payload + at + 2) & 0x3FFu;
        at += 4;
    }
    return at < size && at + 1 + older <= size ? (uint16_t)(at + 1 + older) : 0;
}

/* Every block of the copy at `to` says this payload type. */
static void rename_red(uint8_t *to, uint8_t payload_type) {
    for (; *to & 0x80; to += 4) *to = 0x80 | payload_type;
    *to = payload_type;
}
