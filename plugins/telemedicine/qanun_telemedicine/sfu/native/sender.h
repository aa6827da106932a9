/* One section of one subscriber: forwarding.py in C. Makes whatever track and layer is sent there look like a single
 * uninterrupted stream. Knows nothing of encryption and sockets. */

#define CARRIED 8
#define SEGMENTS 4
/* Header, the largest extension block and the original number of a retransmission: what rewriting adds at most. */
#define GROWTH (HEADER + 4 + (CARRIED + 1) * 17 + 3 + 2)

struct carry {
    uint8_t theirs;
    int16_t ours;
};

/* From `first` (our number) on, packets came from this stream with these differences. */
struct segment {
    struct reception *stream;
    uint16_t first, begin; /* begin: their first number; what is older belongs to before the switch */
    uint16_t sequence;
    uint32_t timestamp;
    int32_t picture, tl0;
    uint32_t carries;
    struct carry carry[CARRIED];
};

struct rewriter {
    qe_sender_spec spec;
    bool paused;
    struct reception *wanted; /* what should be sent; joined at its next key frame */
    uint32_t carries;
    struct carry carry[CARRIED];
    struct segment segments[SEGMENTS];
    uint32_t made; /* segments so far; the last SEGMENTS of them are remembered */
    struct segment *now;
    uint16_t sequence, rtx_sequence;
    uint32_t timestamp;
    int64_t timestamp_ns;
    /* Picture id and TL0PICIDX as the publisher wrote them in the newest packet. */
    bool numbered;
    int32_t picture, tl0;
    uint64_t packets, octets;
    uint32_t retransmitted;
    int64_t last_ns;
};

static void begin_rewriter(struct rewriter *s, const qe_sender_spec *spec) {
    s->spec = *spec;
    s->sequence = (uint16_t)(spec->first_sequence - 1);
    s->rtx_sequence = spec->first_sequence;
    s->timestamp = spec->first_timestamp;
}

static void end_rewriter(struct rewriter *s) {
    release(s->wanted);
    for (int i = 0; i < SEGMENTS; i++) release(s->segments[i].stream);
}

static struct reception *current_of(const struct rewriter *s) { return s->now ? s->now->stream : NULL; }

/* Send this stream from its next key frame on (audio: at once); NULL stops. */
static void want(struct rewriter *s, struct reception *stream, const qe_extension *theirs, uint32_t count) {
    hold(stream);
    release(s->wanted);
    s->wanted = stream;
    s->carries = 0;
    for (uint32_t i = 0; i < count && s->carries < CARRIED; i++) {
        int16_t ours = theirs[i].which < CARRIED ? s->spec.carried[theirs[i].which] : -1;
        if (ours >= 0) s->carry[s->carries++] = (struct carry){theirs[i].id, ours};
    }
    if (!stream) s->now = NULL;
}

static void pause_rewriter(struct rewriter *s, bool paused) {
    if (paused && !s->paused) s->now = NULL;
    s->paused = paused;
}

static bool is_waiting(const struct rewriter *s) {
    return !s->paused && s->spec.video && s->wanted && current_of(s) != s->wanted;
}

static struct segment *segment_back(struct rewriter *s, uint32_t back) {
    return &s->segments[(s->made - 1 - back) % SEGMENTS];
}

static struct segment *switch_to(struct rewriter *s, struct reception *stream, struct packet *p, int64_t now_ns) {
    uint16_t first = (uint16_t)(s->sequence + 1);
    uint32_t timestamp = s->timestamp;
    if (s->timestamp_ns) {
        int64_t passed = now_ns - s->timestamp_ns;
        int64_t elapsed = passed > 0 ? ticks(passed, s->spec.clock_rate) : 0;
        timestamp += (uint32_t)(elapsed > 1 ? elapsed : 1);
    }
    int32_t picture = 0, tl0 = 0, theirs, their_tl0;
    if (s->spec.video && s->packets && vp8_numbers(p, &theirs, &their_tl0)) {
        int32_t last = 0, last_tl0 = 0;
        if (s->numbered) {
            const struct segment *before = segment_back(s, 0);
            last = (s->picture + before->picture) & 0x7FFF;
            last_tl0 = (s->tl0 + before->tl0) & 0xFF;
        }
        picture = last + 1 - theirs;
        tl0 = last_tl0 + 1 - their_tl0;
    }
    struct segment *segment = &s->segments[s->made++ % SEGMENTS];
    release(segment->stream);
    *segment = (struct segment){
        .stream = hold(stream),
        .first = first,
        .begin = p->sequence,
        .sequence = (uint16_t)(first - p->sequence),
        .timestamp = timestamp - p->timestamp,
        .picture = picture,
        .tl0 = tl0,
        .carries = s->carries,
    };
    memcpy(segment->carry, s->carry, sizeof s->carry);
    return s->now = segment;
}

/* The header extension in the one-byte form: ids 1 to 14, values of 1 to 16 bytes. Others are left out. `number_at` gets
 * the place of the transport-wide number, or NULL. */
static uint32_t write_block(uint8_t *to, const struct rewriter *s, const struct segment *segment,
                            const struct extensions *x, bool carried, uint8_t **number_at) {
    uint8_t *at = to + 4;
    for (uint32_t i = 0; carried && i < segment->carries; i++) {
        struct carry one = segment->carry[i];
        if (!has(x, one.theirs)) continue;
        uint8_t size = x->size[one.theirs];
        if (one.ours < 1 || one.ours > 14 || size < 1 || size > 16) continue;
        *at++ = (uint8_t)(one.ours << 4 | (size - 1));
        memcpy(at, x->at[one.theirs], size);
        at += size;
    }
    if (s->spec.number_id > 0 && s->spec.number_id < 15) {
        *at++ = (uint8_t)(s->spec.number_id << 4 | 1);
        *number_at = at;
        at += 2;
    } else
        *number_at = NULL;
    uint32_t size = (uint32_t)(at - to) - 4;
    if (!size) return 0;
    while (size % 4) to[4 + size++] = 0;
    put16(to, ONE_BYTE_PROFILE);
    put16(to + 2, size / 4);
    return 4 + size;
}

static uint32_t write_payload(uint8_t *to, const struct segment *segment, struct packet *p) {
    if (p->payload_size) memcpy(to, p->payload, p->payload_size);
    if ((segment->picture || segment->tl0) && !padding_only(p))
        shift_vp8(to, vp8_of(p), segment->picture, segment->tl0);
    return p->payload_size;
}

/* The packet as this subscriber gets it under this transport-wide number: its size, or 0 when it does not get it. */
static uint32_t rewrite(struct rewriter *s, struct reception *stream, struct packet *p, const struct extensions *x,
                        uint16_t number, int64_t now_ns, uint8_t *to) {
    if (s->paused) return 0;
    struct segment *segment = s->now;
    if (!segment || segment->stream != stream) {
        if (stream != s->wanted || (s->spec.video && !p->key)) return 0;
        segment = switch_to(s, stream, p, now_ns);
    }
    uint16_t since = (uint16_t)(p->sequence - segment->begin);
    if (since >= 0x8000) return 0;
    uint16_t sequence = (uint16_t)(p->sequence + segment->sequence);
    uint32_t timestamp = p->timestamp + segment->timestamp;
    if (newer(sequence, s->sequence)) {
        s->sequence = sequence;
        s->timestamp = timestamp;
        s->timestamp_ns = now_ns;
        if (!p->padding && s->spec.video) s->numbered = vp8_numbers(p, &s->picture, &s->tl0);
        if (since > 0x4000) {
            /* Half a cycle later "before the switch" would mean the opposite: let it follow. */
            segment->begin = (uint16_t)(p->sequence - 0x2000);
            segment->first = (uint16_t)(sequence - 0x2000);
        }
    }
    s->packets++;
    s->octets += p->payload_size;
    s->last_ns = now_ns;
    uint8_t *number_at;
    uint32_t block = write_block(to + HEADER, s, segment, x, p->carried, &number_at);
    if (number_at) put16(number_at, number);
    write_header(to, p, block, s->spec.payload_type, sequence, timestamp, s->spec.ssrc);
    return HEADER + block + write_payload(to + HEADER + block, segment, p);
}

/* The retransmission of the packet that went out under this number (RFC 4588: a number of its own, then the original
 * one, then the payload as it was): its size, or 0 when the packet is not known any more. The transport-wide number is
 * still to be written. */
static uint32_t again(struct rewriter *s, uint16_t sequence, struct extensions *x, uint8_t **number_at, uint8_t *to) {
    if (s->paused || s->spec.rtx_payload_type < 0 || newer(sequence, s->sequence)) return 0;
    for (uint32_t back = 0; back < SEGMENTS && back < s->made; back++) {
        struct segment *segment = segment_back(s, back);
        if (newer(segment->first, sequence)) continue;
        struct packet *p = recall(segment->stream, (uint16_t)(sequence - segment->sequence));
        if (!p) return 0;
        s->retransmitted++;
        read_extensions(x, p);
        uint32_t block = write_block(to + HEADER, s, segment, x, true, number_at);
        write_header(to, p, block, (uint8_t)s->spec.rtx_payload_type, ++s->rtx_sequence,
                     p->timestamp + segment->timestamp, s->spec.rtx_ssrc);
        put16(to + HEADER + block, (uint16_t)(p->sequence + segment->sequence));
        return HEADER + block + 2 + write_payload(to + HEADER + block + 2, segment, p);
    }
    return 0;
}
