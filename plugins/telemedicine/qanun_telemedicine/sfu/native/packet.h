/* RTP packets, their header extensions and the VP8 payload descriptor: rtp.py in C, to the letter.
 *
 * Input comes from the network. Nothing here allocates or reads outside of what it was given. */

#define HEADER 12
#define ONE_BYTE_PROFILE 0xBEDE

static inline uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static inline uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }
static inline void put16(uint8_t *at, uint32_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }
static inline void put32(uint8_t *at, uint32_t value) { put16(at, value >> 16), put16(at + 2, value); }

/* Whether 16-bit sequence number `a` comes after `b`. */
static inline bool newer(uint16_t a, uint16_t b) {
    uint16_t ahead = (uint16_t)(a - b);
    return ahead > 0 && ahead < 0x8000;
}

/* Where the changeable numbers of a VP8 payload descriptor are (0 when absent), and whether a key frame begins here. */
struct vp8 {
    bool valid, key, picture_long;
    uint16_t width;
    uint8_t picture_at, tl0_at;
};

/* One decrypted packet. `payload` still ends in its padding when `padding` is set. */
struct packet {
    const uint8_t *payload, *extensions; /* extensions: NULL for none */
    uint32_t timestamp, ssrc;
    uint16_t payload_size, extensions_size, profile, sequence;
    uint8_t payload_type;
    bool marker, padding;
    bool key;     /* a VP8 key frame begins here; set by whoever knows the codec */
    bool carried; /* some extension may travel on; set by whoever knows the ids */
    bool looked;  /* `vp8` is filled in */
    struct vp8 vp8;
};

static bool parse_packet(struct packet *p, const uint8_t *data, uint32_t size) {
    if (size < HEADER || size > UINT16_MAX || data[0] >> 6 != 2) return false;
    memset(p, 0, sizeof *p);
    uint32_t start = HEADER + 4u * (data[0] & 15);
    if (data[0] & 16) {
        if (start + 4 > size) return false;
        uint32_t words = get16(data + start + 2), end = start + 4 + 4 * words;
        if (end > size) return false;
        p->profile = get16(data + start);
        p->extensions = data + start + 4;
        p->extensions_size = (uint16_t)(4 * words);
        start = end;
    }
    if (start > size) return false;
    p->padding = data[0] & 32;
    if (p->padding && (start == size || data[size - 1] == 0 || data[size - 1] > size - start)) return false;
    p->marker = data[1] > 127;
    p->payload_type = data[1] & 127;
    p->sequence = get16(data + 2);
    p->timestamp = get32(data + 4);
    p->ssrc = get32(data + 8);
    p->payload = data + start;
    p->payload_size = (uint16_t)(size - start);
    return true;
}

static bool padding_only(const struct packet *p) {
    return !p->payload_size || (p->padding && p->payload[p->payload_size - 1] >= p->payload_size);
}

/* The extensions of one packet by their id, found in one pass. Nothing is cleared between packets: `round` tells. */
struct extensions {
    uint32_t round;
    uint32_t seen[256];
    const uint8_t *at[256];
    uint8_t size[256];
};

static inline void found(struct extensions *x, uint8_t id, const uint8_t *at, uint8_t size) {
    x->seen[id] = x->round;
    x->at[id] = at;
    x->size[id] = size;
}

static inline bool has(const struct extensions *x, uint8_t id) { return x->seen[id] == x->round; }

static void read_extensions(struct extensions *x, const struct packet *p) {
    if (++x->round == 0) { /* after four thousand million packets the old marks would look new */
        memset(x->seen, 0, sizeof x->seen);
        x->round = 1;
    }
    const uint8_t *at = p->extensions;
    if (!at) return;
    const uint8_t *end = at + p->extensions_size;
    if (p->profile == ONE_BYTE_PROFILE) {
        while (at < end) {
            if (!*at) {
                at++;
                continue;
            }
            uint8_t id = *at >> 4, size = (uint8_t)((*at & 15) + 1);
            if (id == 0 || id == 15 || size > end - at - 1) return;
            found(x, id, at + 1, size);
            at += 1 + size;
        }
    } else if ((p->profile & 0xFFF0) == 0x1000) {
        while (end - at > 1) {
            if (!*at) {
                at++;
                continue;
            }
            uint8_t size = at[1];
            if (size > end - at - 2) return;
            found(x, *at, at + 2, size);
            at += 2 + size;
        }
    }
}

static struct vp8 read_vp8(const uint8_t *payload, uint32_t size) {
    struct vp8 w = {0}, none = {0};
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

static const struct vp8 *vp8_of(struct packet *p) {
    if (!p->looked) {
        p->vp8 = read_vp8(p->payload, p->payload_size);
        p->looked = true;
    }
    return &p->vp8;
}

/* Picture id and TL0PICIDX; false when the descriptor is cut short. */
static bool vp8_numbers(struct packet *p, int32_t *picture, int32_t *tl0) {
    const struct vp8 *w = vp8_of(p);
    *picture = *tl0 = 0;
    if (!w->valid) return false;
    if (w->picture_at)
        *picture = w->picture_long ? get16(p->payload + w->picture_at) & 0x7FFF : p->payload[w->picture_at];
    if (w->tl0_at) *tl0 = p->payload[w->tl0_at];
    return true;
}

/* Move picture id and TL0PICIDX of the copy at `to`, as if the streams that were joined were one. */
static void shift_vp8(uint8_t *to, const struct vp8 *w, int32_t picture, int32_t tl0) {
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

static void write_header(uint8_t *to, const struct packet *p, bool extended, uint8_t payload_type, uint16_t sequence,
                         uint32_t timestamp, uint32_t ssrc) {
    to[0] = (uint8_t)(0x80 | (p->padding ? 32 : 0) | (extended ? 16 : 0));
    to[1] = (uint8_t)((p->marker ? 128 : 0) | payload_type);
    put16(to + 2, sequence);
    put32(to + 4, timestamp);
    put32(to + 8, ssrc);
}
