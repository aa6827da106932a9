/* Who there is and who gets what: streams.py in C, with what the engine hands over to Python. */

#define MOST_STREAMS 64
#define SENT_LOG 2048
#define MOST_ARRIVALS 5000
#define ALIVE_NS 1500000000ll

/* A list of pointers that keeps its order. */
struct list {
    void **items;
    uint32_t count, capacity;
};

static bool list_add(struct list *list, void *item) {
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity ? 2 * list->capacity : 8;
        void **items = realloc(list->items, capacity * sizeof *items);
        if (!items) return false;
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
    return true;
}

static void list_remove(struct list *list, const void *item) {
    for (uint32_t i = 0; i < list->count; i++)
        if (list->items[i] == item) {
            memmove(list->items + i, list->items + i + 1, (--list->count - i) * sizeof *list->items);
            return;
        }
}

/* One SSRC that a transport sends. */
struct stream {
    struct reception *reception;
    struct qe_track *track;
    int32_t rid;
    bool retransmission;
};

struct qe_track {
    uint32_t serial;
    qe_transport *transport;
    bool video, started;
    uint8_t payload_type, level_id;
    int16_t rtx_payload_type, red_payload_type;
    uint8_t codec, descriptor_id;
    uint32_t clock_rate;
    char *mid;
    char **rids;
    uint32_t rid_count;
    uint32_t *ssrcs;
    int32_t *ssrc_rids;
    uint32_t ssrc_count;
    qe_extension *carried;
    uint32_t carried_count;
    struct list layers;  /* streams, in the order in which their layers appeared */
    struct list outputs; /* senders */
    int32_t level;
    uint32_t taps;
    struct stream *tapped;
};

struct numbered {
    int64_t ns;
    int32_t number;
    uint32_t octets;
};

struct qe_transport {
    uint32_t serial;
    void *rtp_in, *rtp_out; /* NULL until the keys are there */
    address_t target;
    bool has_target;
    uint8_t mid_id, rid_id, repaired_id, number_id;
    struct list tracks, senders;
    struct stream *streams[MOST_STREAMS];
    uint32_t stream_count;
    qe_counters counters;
    uint16_t number; /* transport-wide: the next one, and what went out under the last ones */
    struct numbered log[SENT_LOG];
    struct numbered *arrivals;
    uint32_t arrival_count, arrival_capacity;
};

struct qe_sender {
    uint32_t serial;
    qe_transport *transport;
    qe_track *route;
    struct rewriter out;
};

/* A retransmission between the order from Python and its encryption by the thread. */
struct repeat {
    struct repeat *next;
    qe_transport *transport;
    int64_t ns;
    bool numbered;
    uint32_t number_at; /* where in `data`; 0: nowhere */
    uint32_t size;
    uint8_t data[];
};

static void log_sent(qe_transport *t, uint16_t number, uint32_t size, int64_t now_ns) {
    t->log[number % SENT_LOG] = (struct numbered){now_ns, number, size};
}

static void log_arrival(qe_transport *t, uint16_t number, int64_t now_ns) {
    if (t->arrival_count == t->arrival_capacity) {
        if (t->arrival_count >= MOST_ARRIVALS) return;
        uint32_t capacity = t->arrival_capacity ? 2 * t->arrival_capacity : 64;
        if (capacity > MOST_ARRIVALS) capacity = MOST_ARRIVALS;
        struct numbered *larger = realloc(t->arrivals, capacity * sizeof *larger);
        if (!larger) return;
        t->arrivals = larger;
        t->arrival_capacity = capacity;
    }
    t->arrivals[t->arrival_count++] = (struct numbered){now_ns, number, 0};
}

static struct stream *stream_of(qe_transport *t, uint32_t ssrc) {
    for (uint32_t i = 0; i < t->stream_count; i++)
        if (t->streams[i]->reception->ssrc == ssrc) return t->streams[i];
    return NULL;
}

static bool is_text(const struct extensions *x, uint8_t id, const char *text) {
    return has(x, id) && x->size[id] == strlen(text) && !memcmp(x->at[id], text, x->size[id]);
}

static bool has_text(const struct extensions *x, uint8_t id) { return id && has(x, id) && x->size[id]; }

static int32_t rid_named(const qe_track *track, const struct extensions *x, uint8_t id) {
    for (uint32_t i = 0; i < track->rid_count; i++)
        if (is_text(x, id, track->rids[i])) return (int32_t)i;
    return -1;
}

static int64_t known_ssrc(const qe_track *track, uint32_t ssrc) {
    for (uint32_t i = 0; i < track->ssrc_count; i++)
        if (track->ssrcs[i] == ssrc) return i;
    return -1;
}

static bool is_of(const qe_track *track, uint8_t payload_type) {
    return payload_type == track->payload_type || payload_type == track->rtx_payload_type ||
           payload_type == track->red_payload_type;
}

/* By its extensions, then the description, then the payload type. */
static qe_track *track_of(qe_transport *t, const struct packet *p, const struct extensions *x) {
    qe_track **tracks = (qe_track **)t->tracks.items;
    if (has_text(x, t->mid_id))
        for (uint32_t i = 0; i < t->tracks.count; i++)
            if (is_text(x, t->mid_id, tracks[i]->mid)) return tracks[i];
    for (uint32_t i = 0; i < t->tracks.count; i++)
        if (known_ssrc(tracks[i], p->ssrc) >= 0) return tracks[i];
    qe_track *fitting = NULL;
    for (uint32_t i = 0; i < t->tracks.count; i++)
        if (is_of(tracks[i], p->payload_type)) {
            if (fitting) return NULL;
            fitting = tracks[i];
        }
    return fitting;
}

static struct stream *layer_of(const qe_track *track, int32_t rid) {
    for (uint32_t i = 0; i < track->layers.count; i++) {
        struct stream *stream = track->layers.items[i];
        if (stream->rid == rid) return stream;
    }
    return NULL;
}

static int32_t rid_of(const qe_track *track, const struct reception *reception) {
    for (uint32_t i = 0; i < track->layers.count; i++) {
        struct stream *stream = track->layers.items[i];
        if (stream->reception == reception) return stream->rid;
    }
    return -1;
}

/* Which track and layer a new SSRC belongs to; NULL when to none. */
static struct stream *learn(qe_transport *t, const struct packet *p, const struct extensions *x) {
    if (t->stream_count >= MOST_STREAMS) return NULL;
    qe_track *track = track_of(t, p, x);
    if (!track) return NULL;
    bool retransmission = p->payload_type == track->rtx_payload_type;
    if (!is_of(track, p->payload_type)) return NULL;
    int32_t rid = -1;
    if (track->rid_count) {
        int64_t known = known_ssrc(track, p->ssrc);
        if (has_text(x, t->rid_id))
            rid = rid_named(track, x, t->rid_id);
        else if (has_text(x, t->repaired_id))
            rid = rid_named(track, x, t->repaired_id);
        else if (known >= 0)
            rid = track->ssrc_rids[known];
        if (rid < 0) return NULL;
    }
    struct stream *made = calloc(1, sizeof *made);
    bool keep = track->video && !retransmission;
    if (made) made->reception = new_reception(p->ssrc, track->clock_rate, keep, track->codec, track->descriptor_id);
    if (!made || !made->reception) {
        free(made);
        return NULL;
    }
    made->track = track;
    made->rid = rid;
    made->retransmission = retransmission;
    if (!retransmission) {
        struct stream *before = layer_of(track, rid);
        if (before) {
            for (uint32_t i = 0; i < track->layers.count; i++)
                if (track->layers.items[i] == before) track->layers.items[i] = made;
        } else if (!list_add(&track->layers, made)) {
            release(made->reception);
            free(made);
            return NULL;
        }
    }
    return t->streams[t->stream_count++] = made;
}

/* The widest layer that arrives. */
static struct stream *best(const qe_track *track, int64_t now_ns) {
    struct stream *chosen = NULL;
    for (uint32_t i = 0; i < track->layers.count; i++) {
        struct stream *one = track->layers.items[i];
        if (now_ns - one->reception->last_ns >= ALIVE_NS) continue;
        uint32_t width = one->reception->width, most = chosen ? chosen->reception->width : 0;
        int32_t rid = one->rid < 0 ? 0 : one->rid;
        if (!chosen || width > most || (width == most && rid > (chosen->rid < 0 ? 0 : chosen->rid))) chosen = one;
    }
    return chosen;
}

/* Give every section that waits for this track something to wait for. */
static void aim(qe_track *track, int64_t now_ns) {
    for (uint32_t i = 0; i < track->outputs.count; i++) {
        struct rewriter *out = &((qe_sender *)track->outputs.items[i])->out;
        bool waits = out->wanted != NULL;
        if (waits) {
            waits = false;
            for (uint32_t k = 0; k < track->layers.count; k++)
                waits = waits || ((struct stream *)track->layers.items[k])->reception == out->wanted;
        }
        if (waits) continue;
        struct stream *chosen = best(track, now_ns);
        if (!chosen && track->layers.count) chosen = track->layers.items[0];
        if (chosen) want(out, chosen->reception, track->carried, track->carried_count);
    }
}

static void unroute(qe_sender *sender) {
    want(&sender->out, NULL, NULL, 0);
    if (sender->route) list_remove(&sender->route->outputs, sender);
    sender->route = NULL;
}

static void free_track(qe_track *track) {
    if (!track) return;
    for (uint32_t i = 0; i < track->rid_count && track->rids; i++) free(track->rids[i]);
    free(track->rids);
    free(track->mid);
    free(track->ssrcs);
    free(track->ssrc_rids);
    free(track->carried);
    free(track->layers.items);
    free(track->outputs.items);
    free(track);
}

static void unpublish(qe_track *track) {
    qe_transport *t = track->transport;
    uint32_t left = 0;
    for (uint32_t i = 0; i < t->stream_count; i++) {
        struct stream *stream = t->streams[i];
        if (stream->track != track) {
            t->streams[left++] = stream;
            continue;
        }
        release(stream->reception);
        free(stream);
    }
    t->stream_count = left;
    while (track->outputs.count) unroute(track->outputs.items[0]);
    list_remove(&t->tracks, track);
    free_track(track);
}

static void free_sender(qe_sender *sender) {
    unroute(sender);
    list_remove(&sender->transport->senders, sender);
    end_rewriter(&sender->out);
    free(sender);
}

static void free_transport(qe_transport *t) {
    while (t->tracks.count) unpublish(t->tracks.items[0]);
    while (t->senders.count) free_sender(t->senders.items[0]);
    free(t->tracks.items);
    free(t->senders.items);
    free(t->arrivals);
    free(t);
}

static void *copied(const void *from, size_t count, size_t size) {
    void *to = calloc(count ? count : 1, size);
    if (to && count) memcpy(to, from, count * size);
    return to;
}

static qe_track *new_track(qe_transport *t, const qe_track_spec *spec) {
    qe_track *track = calloc(1, sizeof *track);
    if (!track) return NULL;
    track->serial = spec->serial;
    track->transport = t;
    track->video = spec->video;
    track->payload_type = spec->payload_type;
    track->rtx_payload_type = spec->rtx_payload_type;
    track->red_payload_type = spec->red_payload_type;
    track->codec = spec->codec < CODECS ? spec->codec : OPUS;
    track->descriptor_id = spec->descriptor_id;
    track->clock_rate = spec->clock_rate;
    track->level_id = spec->level_id;
    track->mid = strdup(spec->mid);
    track->rids = calloc(spec->rid_count + 1, sizeof *track->rids);
    track->ssrcs = copied(spec->ssrcs, spec->ssrc_count, sizeof *spec->ssrcs);
    track->ssrc_rids = copied(spec->ssrc_rids, spec->ssrc_count, sizeof *spec->ssrc_rids);
    track->ssrc_count = spec->ssrc_count;
    track->carried = copied(spec->carried, spec->carried_count, sizeof *spec->carried);
    track->carried_count = spec->carried_count;
    bool whole = track->mid && track->rids && track->ssrcs && track->ssrc_rids && track->carried;
    for (uint32_t i = 0; whole && i < spec->rid_count; i++, track->rid_count++)
        whole = (track->rids[i] = strdup(spec->rids[i])) != NULL;
    if (whole && list_add(&t->tracks, track)) return track;
    free_track(track);
    return NULL;
}
