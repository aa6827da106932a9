/* One section of one subscriber: forwarding.py in C. Makes whatever track and layer is sent there look like a single
 * uninterrupted stream. Knows nothing of encryption and sockets. */

#define CARRIED 8
#define SEGMENTS 4
/* What the carried extensions of one packet may take in the two-byte form, with their heads. */
#define MOST_CARRIED 268
/* Header, the largest extension block and the original number of a retransmission: what rewriting adds at most. */
#define GROWTH (HEADER + 4 + MOST_CARRIED + 4 + 3 + 2)
_Static_assert((CARRIED + 1) * 17 < MOST_CARRIED, "the one-byte form is never the larger one");

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
    int32_t picture, tl0, frame; /* frame: for dependency descriptors */
    uint8_t payload_type;
    int16_t rtx_payload_type;
    uint32_t number; /* how-many-th switch it was */
    uint16_t highest; /* for streams that hold layers: their newest number */
    bool scalable;
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
    /* Picture id, TL0PICIDX and frame number as the publisher wrote them in the newest packet. */
    bool numbered;
    int32_t numbers[3];
    struct layers layers;
    struct numbers *given; /* NULL until a stream that holds layers was sent */
    uint64_t packets, octets;
    uint32_t retransmitted;
    int64_t last_ns;
};

static void begin_rewriter(struct rewriter *s, const qe_sender_spec *spec) {
    s->spec = *spec;
    s->sequence = (uint16_t)(spec->first_sequence - 1);
    s->rtx_sequence = spec->first_sequence;
    s->timestamp = spec->first_timestamp;
    want_layers(&s->layers, ALL_LAYERS, ALL_LAYERS);
    restart_layers(&s->layers);
}

static void end_rewriter(struct rewriter *s) {
    release(s->wanted);
    for (int i = 0; i < SEGMENTS; i++) release(s->segments[i].stream);
    free(s->given);
}

static struct reception *current_of(const struct rewriter *s) { return s->now ? s->now->stream : NULL; }

/* Send this stream from its next key frame on (audio: at once); NULL stops. */
static void want(struct rewriter *s, struct reception *stream, const qe_extension *theirs, uint32_t count) {
    if (stream && s->spec.payload_types[stream->codec] < 0) return;
    hold(stream);
    release(s->wanted);
    s->wanted = stream;
    s->carries = 0;
    for (uint32_t i = 0; i < count && s->carries < CARRIED; i++) {
        int16_t ours = theirs[i].which < CARRIED ? s->spec.carried[theirs[i].which] : -1;
        if (ours >= 0) s->carry[s->carries++] = (struct carry){theirs[i].id, ours};
    }
    if (!stream) {
        s->now = NULL;
        want_layers(&s->layers, ALL_LAYERS, ALL_LAYERS);
    }
}

static void pause_rewriter(struct rewriter *s, bool paused) {
    if (paused && !s->paused) s->now = NULL;
    s->paused = paused;
}

static bool is_waiting(const struct rewriter *s) {
    return !s->paused && s->spec.video && s->wanted && (current_of(s) != s->wanted || s->layers.lacking);
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
    int32_t apart[3] = {0}, theirs[3];
    if (s->spec.video && s->packets && numbers_of(p, stream->codec, theirs)) {
        static const int32_t mask[3] = {0x7FFF, 0xFF, 0xFFFF};
        const struct segment *before = segment_back(s, 0);
        const int32_t moved[3] = {before->picture, before->tl0, before->frame};
        for (int i = 0; i < 3; i++) {
            int32_t last = s->numbered ? (s->numbers[i] + moved[i]) & mask[i] : 0;
            apart[i] = last + 1 - theirs[i];
        }
    }
    restart_layers(&s->layers);
    bool scalable = s->spec.video && is_scalable(stream->codec);
    if (scalable && !s->given) scalable = (s->given = calloc(1, sizeof *s->given)) != NULL;
    struct segment *segment = &s->segments[s->made++ % SEGMENTS];
    release(segment->stream);
    *segment = (struct segment){
        .stream = hold(stream),
        .first = first,
        .begin = p->sequence,
        .sequence = (uint16_t)(first - p->sequence),
        .timestamp = timestamp - p->timestamp,
        .picture = apart[0],
        .tl0 = apart[1],
        .frame = apart[2],
        .payload_type = (uint8_t)s->spec.payload_types[stream->codec],
        .rtx_payload_type = s->spec.rtx_payload_types[stream->codec],
        .number = s->made,
        .highest = p->sequence,
        .scalable = scalable,
        .carries = s->carries,
    };
    memcpy(segment->carry, s->carry, sizeof s->carry);
    return s->now = segment;
}

/* The header extension: ids 1 to 14, values of 1 to 16 bytes; others are left out, unless the subscriber reads the two-byte
 * form. `number_at` gets the place of the transport-wide number, or NULL. */
static uint32_t write_block(uint8_t *to, const struct rewriter *s, const struct segment *segment,
                            const struct extensions *x, bool carried, uint8_t **number_at) {
    uint8_t *at = to + 4, described = segment->stream->descriptor_id;
    uint32_t room = MOST_CARRIED;
    bool wide = false;
    int16_t moved = -1;
    for (uint32_t i = 0; carried && i < segment->carries; i++) {
        struct carry one = segment->carry[i];
        if (!has(x, one.theirs)) continue;
        wide = wide || (s->spec.wide && x->size[one.theirs] > 16);
        if (described && one.theirs == described && moved < 0) moved = one.ours;
    }
    for (uint32_t i = 0; carried && i < segment->carries; i++) {
        struct carry one = segment->carry[i];
        if (!has(x, one.theirs)) continue;
        uint8_t size = x->size[one.theirs];
        if (wide) {
            if (2u + size > room) continue;
            room -= 2u + size;
        }
        if (one.ours < 1 || one.ours > 14 || (!wide && (size < 1 || size > 16))) continue;
        if (wide) {
            *at++ = (uint8_t)one.ours;
            *at++ = size;
        } else
            *at++ = (uint8_t)(one.ours << 4 | (size - 1));
        memcpy(at, x->at[one.theirs], size);
        /* The position of a frame in the order of all must not jump where streams were joined. */
        if (one.ours == moved && segment->frame && size >= 3) put16(at + 1, get16(at + 1) + (uint32_t)segment->frame);
        at += size;
    }
    if (s->spec.number_id > 0 && s->spec.number_id < 15) {
        if (wide) {
            *at++ = s->spec.number_id;
            *at++ = 2;
        } else
            *at++ = (uint8_t)(s->spec.number_id << 4 | 1);
        *number_at = at;
        at += 2;
    } else
        *number_at = NULL;
    uint32_t size = (uint32_t)(at - to) - 4;
    if (!size) return 0;
    while (size % 4) to[4 + size++] = 0;
    put16(to, wide ? TWO_BYTE_PROFILE : ONE_BYTE_PROFILE);
    put16(to + 2, size / 4);
    return 4 + size;
}

static uint32_t write_payload(uint8_t *to, const struct segment *segment, struct packet *p) {
    if (p->payload_size) memcpy(to, p->payload, p->payload_size);
    if ((segment->picture || segment->tl0) && !padding_only(p))
        shift_numbers(to, look_of(p, segment->stream->codec), segment->picture, segment->tl0);
    return p->payload_size;
}

/* Sound with older sound before it, as far as the subscriber takes that. */
static uint32_t write_red(uint8_t *to, const struct rewriter *s, const struct segment *segment, const struct packet *p) {
    uint32_t skipped = s->spec.red_payload_type < 0 ? p->red : 0, size = p->payload_size - skipped;
    if (size) memcpy(to, p->payload + skipped, size);
    if (!skipped) rename_red(to, segment->payload_type);
    return size;
}

/* Our number for a packet of a stream that holds layers; false when the subscriber does not get it. `empty`: it only
 * holds a place. */
static bool place(struct rewriter *s, struct segment *segment, const struct packet *p, bool switched, uint16_t *ours,
                  bool *last, bool *empty) {
    uint16_t ahead = (uint16_t)(p->sequence - segment->highest);
    bool newest = switched || (ahead > 0 && ahead < 0x8000);
    bool forward = admit(&s->layers, p, newest, last);
    *empty = false;
    if (!newest) {
        struct given *late = late_number(s->given, p->sequence, segment->number);
        if (!late || late->empty) return false;
        late->empty = *empty = !forward;
        late->last = *last;
        *ours = late->ours;
        return true;
    }
    if (!switched) {
        reserve(s->given, s->sequence, p->sequence, ahead - 1u, segment->number);
        s->sequence = (uint16_t)(s->sequence + ahead - 1);
        segment->highest = p->sequence;
    }
    if (!forward) return false;
    *ours = (uint16_t)(s->sequence + 1);
    give(s->given, *ours, p->sequence, segment->number, *last);
    return true;
}

/* The packet as this subscriber gets it under this transport-wide number: its size, or 0 when it does not get it. */
static uint32_t rewrite(struct rewriter *s, struct reception *stream, struct packet *p, const struct extensions *x,
                        uint16_t number, int64_t now_ns, uint8_t *to) {
    if (s->paused) return 0;
    struct segment *segment = s->now;
    bool switched = !segment || segment->stream != stream;
    if (switched) {
        if (stream != s->wanted || (s->spec.video && !p->key)) return 0;
        segment = switch_to(s, stream, p, now_ns);
    }
    uint16_t since = (uint16_t)(p->sequence - segment->begin);
    if (since >= 0x8000) return 0;
    uint16_t sequence = (uint16_t)(p->sequence + segment->sequence);
    bool last = false, empty = false;
    if (segment->scalable && !place(s, segment, p, switched, &sequence, &last, &empty)) return 0;
    uint32_t timestamp = p->timestamp + segment->timestamp;
    if (newer(sequence, s->sequence)) {
        s->sequence = sequence;
        s->timestamp = timestamp;
        s->timestamp_ns = now_ns;
        if (!p->padding && s->spec.video) s->numbered = numbers_of(p, stream->codec, s->numbers);
        if (since > 0x4000) {
            /* Half a cycle later "before the switch" would mean the opposite: let it follow. */
            segment->begin = (uint16_t)(p->sequence - 0x2000);
            segment->first = (uint16_t)(sequence - 0x2000);
        }
    }
    uint8_t *number_at, payload_type = segment->payload_type;
    if (p->red && !empty && s->spec.red_payload_type >= 0) payload_type = (uint8_t)s->spec.red_payload_type;
    uint32_t block = write_block(to + HEADER, s, segment, x, p->carried && !empty, &number_at), size = 0;
    if (number_at) put16(number_at, number);
    write_header(to, !empty && (p->marker || last), !empty && p->padding, block, payload_type, sequence, timestamp,
                 s->spec.ssrc);
    uint8_t *payload = to + HEADER + block;
    if (!empty) size = p->red ? write_red(payload, s, segment, p) : write_payload(payload, segment, p);
    s->packets++;
    s->octets += size;
    s->last_ns = now_ns;
    return HEADER + block + size;
}

/* The retransmission of the packet that went out under this number (RFC 4588: a number of its own, then the original
 * one, then the payload as it was): its size, or 0 when the packet is not known any more. The transport-wide number is
 * still to be written. */
static uint32_t again(struct rewriter *s, uint16_t sequence, struct extensions *x, uint8_t **number_at, uint8_t *to) {
    if (s->paused || newer(sequence, s->sequence)) return 0;
    for (uint32_t back = 0; back < SEGMENTS && back < s->made; back++) {
        struct segment *segment = segment_back(s, back);
        if (newer(segment->first, sequence)) continue;
        uint16_t theirs = (uint16_t)(sequence - segment->sequence);
        bool last = false;
        if (segment->scalable) {
            const struct given *given = known_number(s->given, sequence);
            if (!given || given->empty || given->number != segment->number) return 0;
            theirs = given->theirs;
            last = given->last;
        }
        struct packet *p = recall(segment->stream, theirs);
        if (!p || segment->rtx_payload_type < 0) return 0;
        s->retransmitted++;
        read_extensions(x, p);
        uint32_t block = write_block(to + HEADER, s, segment, x, true, number_at);
        write_header(to, p->marker || last, p->padding, block, (uint8_t)segment->rtx_payload_type, ++s->rtx_sequence,
                     p->timestamp + segment->timestamp, s->spec.rtx_ssrc);
        put16(to + HEADER + block, sequence);
        return HEADER + block + 2 + write_payload(to + HEADER + block + 2, segment, p);
    }
    return 0;
}
