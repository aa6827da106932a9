/* What is known of one received SSRC: reception.py in C. Counted references, because the sections of subscribers
 * remember streams that may have ended. */

#define HISTORY 512
#define MOST_MISSING 128
#define RETRIES 8
#define RETRY_NS 60000000
#define PATIENCE_NS 12000000
#define SECOND_NS 1000000000

struct gap {
    int64_t at_ns;
    uint16_t sequence;
    uint16_t tries;
};

/* A packet of the history, as the publisher sent it: its extensions, then its payload, in memory that grows to the
 * largest packet its place has seen. */
struct kept {
    struct packet packet;
    uint8_t *bytes;
    uint32_t capacity;
    bool used;
};

struct reception {
    uint32_t references;
    uint32_t ssrc, clock_rate;
    uint8_t codec, descriptor_id; /* under which id dependency descriptors come; 0 for none */
    bool layered;
    struct structure *structure; /* what they refer to, from the last key frame; NULL for none, */
    uint16_t structured;         /* and the number of the packet that brought it */
    uint64_t layer_octets[MOST_LAYERS * MOST_LAYERS]; /* spatial, then temporal */
    int64_t layer_ns[MOST_LAYERS * MOST_LAYERS];
    uint16_t widths[MOST_LAYERS];
    uint64_t packets, octets;
    int64_t last_ns;
    uint32_t width;
    bool broken; /* the gap was too long: only a key frame helps */
    int64_t base, highest;
    int64_t transit;
    double jitter;
    int64_t reported_expected, reported_packets;
    uint32_t last_sr;
    int64_t last_sr_ns;
    uint32_t missing_count;
    struct gap missing[MOST_MISSING];
    struct kept *history; /* NULL: nothing is kept */
};

static struct reception *new_reception(uint32_t ssrc, uint32_t clock_rate, bool keep, uint8_t codec,
                                       uint8_t descriptor_id) {
    struct reception *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->references = 1;
    r->ssrc = ssrc;
    r->clock_rate = clock_rate;
    r->codec = codec;
    r->descriptor_id = descriptor_id;
    r->base = -1;
    if (keep && !(r->history = calloc(HISTORY, sizeof *r->history))) {
        free(r);
        return NULL;
    }
    return r;
}

static struct reception *hold(struct reception *r) {
    if (r) r->references++;
    return r;
}

static void release(struct reception *r) {
    if (!r || --r->references) return;
    if (r->history)
        for (int i = 0; i < HISTORY; i++) free(r->history[i].bytes);
    free(r->history);
    free(r->structure);
    free(r);
}

/* Python's `now_ns * rate // 1_000_000_000`, without leaving 64 bits. */
static int64_t ticks(int64_t ns, uint32_t rate) {
    return ns / SECOND_NS * rate + ns % SECOND_NS * (int64_t)rate / SECOND_NS;
}

static struct packet *recall(struct reception *r, uint16_t sequence) {
    if (!r->history) return NULL;
    struct kept *k = &r->history[sequence % HISTORY];
    return k->used && k->packet.sequence == sequence ? &k->packet : NULL;
}

/* Returns the copy, so that what is found out later can be noted there too. */
static struct packet *keep(struct reception *r, const struct packet *p) {
    struct kept *k = &r->history[p->sequence % HISTORY];
    uint32_t size = (uint32_t)p->extensions_size + p->payload_size;
    k->used = false;
    if (size > k->capacity || !k->bytes) {
        uint32_t capacity = (size + 128) & ~127u;
        uint8_t *bytes = realloc(k->bytes, capacity);
        if (!bytes) return NULL;
        k->bytes = bytes;
        k->capacity = capacity;
    }
    k->packet = *p;
    if (p->extensions_size) memcpy(k->bytes, p->extensions, p->extensions_size);
    if (p->payload_size) memcpy(k->bytes + p->extensions_size, p->payload, p->payload_size);
    k->packet.extensions = p->extensions ? k->bytes : NULL;
    k->packet.payload = k->bytes + p->extensions_size;
    k->used = true;
    return &k->packet;
}

static bool was_missing(struct reception *r, uint16_t sequence) {
    for (uint32_t i = 0; i < r->missing_count; i++)
        if (r->missing[i].sequence == sequence) {
            memmove(r->missing + i, r->missing + i + 1, (--r->missing_count - i) * sizeof *r->missing);
            return true;
        }
    return false;
}

static void note_gap(struct reception *r, uint16_t ahead, int64_t now_ns) {
    if (!r->history) return;
    if (ahead > MOST_MISSING || r->missing_count + ahead > MOST_MISSING) {
        r->missing_count = 0;
        r->broken = true;
        return;
    }
    for (uint16_t step = 1; step < ahead; step++) {
        struct gap gap = {now_ns + PATIENCE_NS, (uint16_t)(r->highest + step), 0};
        uint32_t at = 0;
        while (at < r->missing_count && r->missing[at].sequence != gap.sequence) at++;
        r->missing[at] = gap;
        if (at == r->missing_count) r->missing_count++;
    }
}

/* Count a packet and keep it. False when it is a repetition. */
static bool arrived(struct reception *r, const struct packet *p, uint32_t size, int64_t now_ns) {
    if (r->base < 0)
        r->base = r->highest = p->sequence;
    else {
        uint16_t ahead = (uint16_t)(p->sequence - (uint64_t)r->highest);
        if (ahead == 0) return false;
        if (ahead < 0x8000) {
            if (ahead > 1) note_gap(r, ahead, now_ns);
            r->highest += ahead;
        } else if (!was_missing(r, p->sequence) && recall(r, p->sequence))
            return false;
    }
    r->packets++;
    r->octets += size;
    r->last_ns = now_ns;
    int64_t transit = ticks(now_ns, r->clock_rate) - p->timestamp;
    if (r->transit) {
        int64_t change = (int64_t)(((uint64_t)transit - (uint64_t)r->transit + 0x80000000u) & 0xFFFFFFFFu) - 0x80000000ll;
        r->jitter += ((double)(change < 0 ? -change : change) - r->jitter) / 16;
    }
    r->transit = transit;
    return true;
}

/* What a dependency descriptor needs while its packet is worked on. */
struct scratch {
    struct descriptor descriptor;
    struct structure structure;
};

static bool look_by_descriptor(struct reception *r, struct packet *p, const struct extensions *x, struct scratch *room) {
    struct descriptor *d = &room->descriptor;
    uint8_t id = r->descriptor_id;
    if (!read_descriptor(d, x->at[id], x->size[id], r->structure, &room->structure)) return false;
    if (d->attached) {
        if (d->told) room->structure.active = d->active;
        /* Also one that comes late, or again: what follows cannot be read without it. */
        if (!r->structure || newer(p->sequence, r->structured)) {
            if (!r->structure && !(r->structure = malloc(sizeof *r->structure))) return false;
            *r->structure = room->structure;
            r->structured = p->sequence;
            d->structure = r->structure;
        }
    } else if (d->told && p->sequence == (uint16_t)r->highest)
        r->structure->active = d->active;
    p->descriptor = d;
    p->look = look_described(d);
    return p->looked = true;
}

/* Find out what of which picture an arrived packet carries, and note it there and here. */
static void look(struct reception *r, struct packet *p, const struct extensions *x, uint32_t size, int64_t now_ns,
                 struct scratch *room) {
    if (r->codec == VP8) {
        /* Only the first packet of a frame can begin a key frame: S set, partition 0. */
        if (!p->payload_size || (p->payload[0] & 0x17) != 0x10) return;
        look_of(p, r->codec);
    } else {
        if (padding_only(p)) return;
        if (!r->descriptor_id || !has(x, r->descriptor_id))
            look_of(p, r->codec);
        else if (!look_by_descriptor(r, p, x, room))
            return;
        p->glanced = is_scalable(r->codec) && p->look.valid;
    }
    const struct look *w = &p->look;
    if (!w->valid) return;
    if (w->key) {
        p->key = true;
        r->broken = false;
        if (w->width) r->width = w->width;
    }
    if (w->layered) {
        r->layered = true;
        if (w->width_count) {
            memset(r->widths, 0, sizeof r->widths);
            memcpy(r->widths, w->widths, w->width_count * sizeof *w->widths);
        }
        uint32_t layer = w->spatial * MOST_LAYERS + w->temporal;
        r->layer_octets[layer] += size;
        r->layer_ns[layer] = now_ns;
    }
}

/* Missing packets that should be asked for now, oldest first; after so many times in vain they are given up. */
static uint32_t due(struct reception *r, int64_t now_ns, uint16_t *wanted) {
    uint32_t count = 0, left = 0;
    for (uint32_t i = 0; i < r->missing_count; i++) {
        struct gap gap = r->missing[i];
        if (gap.tries == RETRIES) {
            r->broken = true;
            continue;
        }
        if (gap.at_ns <= now_ns) {
            gap.tries++;
            gap.at_ns = now_ns + RETRY_NS;
            uint32_t at = count++;
            uint16_t age = (uint16_t)(gap.sequence - (uint64_t)r->highest);
            for (; at && (uint16_t)(wanted[at - 1] - (uint64_t)r->highest) > age; at--) wanted[at] = wanted[at - 1];
            wanted[at] = gap.sequence;
        }
        r->missing[left++] = gap;
    }
    r->missing_count = left;
    return count;
}

/* The report block for the interval since the last one; with `advance` the next interval begins. */
static void fill_report(struct reception *r, int64_t now_ns, bool advance, qe_stream_state *out) {
    int64_t expected = r->base >= 0 ? r->highest - r->base + 1 : 0, packets = (int64_t)r->packets;
    int64_t interval = expected - r->reported_expected;
    int64_t lost = interval - (packets - r->reported_packets);
    if (advance) {
        r->reported_expected = expected;
        r->reported_packets = packets;
    }
    int64_t fraction = interval > 0 && lost > 0 ? (lost << 8) / interval : 0;
    out->fraction_lost = (uint32_t)(fraction > 255 ? 255 : fraction);
    out->packets_lost = expected - packets;
    out->highest_sequence = r->highest;
    out->jitter = (int64_t)r->jitter;
    out->last_sr = r->last_sr;
    out->delay = r->last_sr_ns ? ticks(now_ns - r->last_sr_ns, 65536) : 0;
}
