/* RTP packets and their header extensions: rtp.py in C, to the letter. What is in payloads: payloads.h.
 *
 * Input comes from the network. Nothing here allocates or reads outside of what it was given. */

#define HEADER 12
#define ONE_BYTE_PROFILE 0xBEDE
#define TWO_BYTE_PROFILE 0x1000

static inline uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static inline uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }
static inline void put16(uint8_t *at, uint32_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }
static inline void put32(uint8_t *at, uint32_t value) { put16(at, value >> 16), put16(at + 2, value); }

/* Whether 16-bit sequence number `a` comes after `b`. */
static inline bool newer(uint16_t a, uint16_t b) {
    uint16_t ahead = (uint16_t)(a - b);
    return ahead > 0 && ahead < 0x8000;
}

/* Where the changeable numbers of a payload descriptor are (0 when absent), and which part of which picture follows it. */
#define MOST_LAYERS 4
struct look {
    bool valid, key, picture_long;
    bool begins, ends, predicted, up, layered; /* of one layer's part of a picture */
    uint8_t spatial, temporal;
    uint8_t picture_at, tl0_at;
    uint8_t width_count;
    uint16_t width, frame; /* frame: by the dependency descriptor */
    uint16_t widths[MOST_LAYERS];
};

/* One decrypted packet. `payload` still ends in its padding when `padding` is set. */
struct packet {
    const uint8_t *payload, *extensions; /* extensions: NULL for none */
    const struct descriptor *descriptor; /* AV1: only while the packet is worked on */
    uint32_t timestamp, ssrc;
    uint16_t payload_size, extensions_size, profile, sequence;
    uint16_t red; /* sound with older sound before it: where the newest begins; 0 for plain sound */
    uint8_t payload_type;
    bool marker, padding;
    bool key;     /* a key frame begins here; set by whoever knows the codec */
    bool carried; /* some extension may travel on; set by whoever knows the ids */
    bool looked;  /* `look` is filled in, */
    bool glanced; /* and matters for every packet */
    struct look look;
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

static void write_header(uint8_t *to, bool marker, bool padding, bool extended, uint8_t payload_type, uint16_t sequence,
                         uint32_t timestamp, uint32_t ssrc) {
    to[0] = (uint8_t)(0x80 | (padding ? 32 : 0) | (extended ? 16 : 0));
    to[1] = (uint8_t)((marker ? 128 : 0) | payload_type);
    put16(to + 2, sequence);
    put32(to + 4, timestamp);
    put32(to + 8, ssrc);
}
