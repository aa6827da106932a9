/* What Python calls: see engine.h. Each holds the lock for itself. */

int qe_event_fd(qe_engine *e) { return e->event_fd; }

size_t qe_take_events(qe_engine *e, int which, const uint8_t **records) {
    struct events *events = which ? &e->tapped : &e->events;
    if (!which) {
        uint64_t times;
        if (read(e->event_fd, &times, sizeof times) < 0) times = 0; /* nothing new since the last call */
    }
    pthread_mutex_lock(&events->lock);
    size_t used = events->used;
    *records = events->buffers[events->turn];
    if (used) {
        events->turn ^= 1;
        events->used = 0;
    }
    pthread_mutex_unlock(&events->lock);
    return used;
}

uint64_t qe_figure(qe_engine *e, int which) {
    enter(e);
    uint64_t figures[] = {e->strangers, e->outbox.unsent, e->events.lost, e->tapped.lost, e->outbox.joined, e->repeat_count};
    leave(e);
    return which >= 0 && which < 6 ? figures[which] : 0;
}

/* -- transports ------------------------------------------------------------------------------------------------------ */

qe_transport *qe_transport_add(qe_engine *e, uint32_t serial) {
    qe_transport *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->serial = serial;
    for (int i = 0; i < SENT_LOG; i++) t->log[i].number = -1;
    enter(e);
    bool added = list_add(&e->transports, t);
    leave(e);
    if (added) return t;
    free(t);
    return NULL;
}

void qe_transport_unlock(qe_engine *e, qe_transport *t, void *rtp_in, void *rtp_out) {
    enter(e);
    t->rtp_in = rtp_in;
    t->rtp_out = rtp_out;
    leave(e);
}

void qe_transport_extensions(qe_engine *e, qe_transport *t, uint8_t mid, uint8_t rid, uint8_t repaired, uint8_t number) {
    enter(e);
    t->mid_id = mid;
    t->rid_id = rid;
    t->repaired_id = repaired;
    t->number_id = number;
    leave(e);
}

void qe_transport_remove(qe_engine *e, qe_transport *t) {
    enter(e);
    drop_addresses_of(&e->addresses, t);
    drop_repeats(e, t);
    list_remove(&e->transports, t);
    free_transport(t);
    leave(e);
}

void qe_bind(qe_engine *e, const uint8_t *address, qe_transport *t) {
    enter(e);
    set_address(&e->addresses, key_of(address), t);
    leave(e);
}

void qe_unbind(qe_engine *e, const uint8_t *address) {
    enter(e);
    drop_address(&e->addresses, key_of(address));
    leave(e);
}

void qe_send_to(qe_engine *e, qe_transport *t, const uint8_t *address) {
    enter(e);
    memcpy(t->target.raw, address, sizeof t->target.raw);
    t->has_target = true;
    leave(e);
}

int qe_follow(qe_engine *e, qe_transport *t, const uint8_t *address) {
    enter(e);
    bool other = !t->has_target || !same_address(t->target.raw, address);
    memcpy(t->target.raw, address, sizeof t->target.raw);
    t->has_target = true;
    leave(e);
    return other;
}

int qe_target(qe_engine *e, qe_transport *t, uint8_t *address) {
    enter(e);
    bool known = t->has_target;
    memcpy(address, t->target.raw, sizeof t->target.raw);
    leave(e);
    return known;
}

void qe_counters_of(qe_engine *e, qe_transport *t, qe_counters *out) {
    enter(e);
    *out = t->counters;
    leave(e);
}

/* -- tracks and sections --------------------------------------------------------------------------------------------- */

qe_track *qe_publish(qe_engine *e, qe_transport *t, const qe_track_spec *spec) {
    enter(e);
    qe_track *track = new_track(t, spec);
    leave(e);
    return track;
}

void qe_unpublish(qe_engine *e, qe_track *track) {
    enter(e);
    unpublish(track);
    leave(e);
}

int qe_level(qe_engine *e, qe_track *track) {
    enter(e);
    int level = track->level;
    leave(e);
    return level;
}

void qe_tap(qe_engine *e, qe_track *track, int taps) {
    enter(e);
    if ((uint32_t)taps > track->taps && track->video) track->tapped = NULL;
    track->taps = (uint32_t)taps;
    leave(e);
}

qe_sender *qe_sender_add(qe_engine *e, qe_transport *t, const qe_sender_spec *spec) {
    qe_sender *sender = calloc(1, sizeof *sender);
    if (!sender) return NULL;
    sender->serial = spec->serial;
    sender->transport = t;
    begin_rewriter(&sender->out, spec);
    enter(e);
    bool added = list_add(&t->senders, sender);
    leave(e);
    if (added) return sender;
    free(sender);
    return NULL;
}

void qe_sender_remove(qe_engine *e, qe_sender *sender) {
    enter(e);
    free_sender(sender);
    leave(e);
}

void qe_route(qe_engine *e, qe_sender *sender, qe_track *track, int paused, int64_t now_ns) {
    enter(e);
    if (sender->route != track || !track) {
        unroute(sender);
        if (track && list_add(&track->outputs, sender)) {
            sender->route = track;
            aim(track, now_ns);
        }
    }
    pause_rewriter(&sender->out, paused);
    leave(e);
}

int qe_select(qe_engine *e, qe_sender *sender, int32_t rid) {
    enter(e);
    qe_track *track = sender->route;
    struct stream *layer = track ? layer_of(track, rid) : NULL;
    bool other = layer && sender->out.wanted != layer->reception;
    if (other) want(&sender->out, layer->reception, track->carried, track->carried_count);
    leave(e);
    return other;
}

void qe_select_layers(qe_engine *e, qe_sender *sender, uint8_t spatial, uint8_t temporal) {
    enter(e);
    if (sender->route) want_layers(&sender->out.layers, least_layer(spatial), least_layer(temporal));
    leave(e);
}

int qe_retransmit(qe_engine *e, qe_sender *sender, const uint16_t *sequences, uint32_t count, int64_t now_ns) {
    int done = 0;
    enter(e);
    qe_transport *t = sender->transport;
    for (uint32_t i = 0; i < count && t->has_target && t->rtp_out && e->repeat_count < MOST_REPEATS; i++) {
        struct repeat *one = malloc(sizeof *one + SLOT);
        if (!one) break;
        uint8_t *number_at = NULL;
        one->size = again(&sender->out, sequences[i], &e->extensions, &number_at, one->data);
        if (!one->size) {
            free(one);
            continue;
        }
        one->number_at = number_at ? (uint32_t)(number_at - one->data) : 0;
        struct repeat *fitting = realloc(one, sizeof *one + one->size);
        if (fitting) one = fitting;
        one->next = NULL;
        one->transport = t;
        one->ns = now_ns;
        one->numbered = sender->out.spec.number_id;
        *e->last_repeat = one;
        e->last_repeat = &one->next;
        e->repeat_count++;
        done++;
    }
    leave(e);
    if (done) wake(e);
    return done;
}

/* -- what the control plane reads ------------------------------------------------------------------------------------ */

uint32_t qe_translate(qe_engine *e, qe_track *track, uint32_t ssrc, uint32_t timestamp, uint64_t ntp, int64_t now_ns,
                      qe_translated *out, uint32_t most) {
    uint32_t made = 0;
    enter(e);
    struct stream *stream = stream_of(track->transport, ssrc);
    if (stream) {
        stream->reception->last_sr = (uint32_t)(ntp >> 16);
        stream->reception->last_sr_ns = now_ns;
    }
    bool tapped = stream && stream == track->tapped;
    for (uint32_t i = 0; i < track->outputs.count && made < most; i++) {
        qe_sender *sender = track->outputs.items[i];
        const struct segment *segment = sender->out.now;
        if (!segment || segment->stream->ssrc != ssrc) continue;
        out[made++] = (qe_translated){sender->transport->serial, sender->serial, timestamp + segment->timestamp,
                                      sender->out.packets, sender->out.octets};
    }
    leave(e);
    return made << 1 | tapped;
}

uint32_t qe_sent(qe_engine *e, qe_transport *t, uint32_t first, uint32_t count, qe_numbered *out) {
    enter(e);
    for (uint32_t i = 0; i < count; i++) {
        uint16_t number = (uint16_t)(first + i);
        struct numbered one = t->log[number % SENT_LOG];
        bool known = one.number == number;
        out[i] = (qe_numbered){known ? one.ns : 0, number, known ? one.octets : 0};
    }
    leave(e);
    return count;
}

uint32_t qe_receiving(qe_engine *e, int64_t since_ns, uint32_t *serials, uint32_t most) {
    uint32_t count = 0;
    enter(e);
    for (uint32_t i = 0; i < e->transports.count && count < most; i++) {
        qe_transport *t = e->transports.items[i];
        bool heard = false;
        for (uint32_t k = 0; k < t->stream_count && !heard; k++) heard = t->streams[k]->reception->last_ns > since_ns;
        if (heard) serials[count++] = t->serial;
    }
    leave(e);
    return count;
}

uint32_t qe_take_arrivals(qe_engine *e, qe_transport *t, qe_numbered *out, uint32_t most) {
    enter(e);
    uint32_t count = t->arrival_count < most ? t->arrival_count : most;
    for (uint32_t i = 0; i < count; i++) out[i] = (qe_numbered){t->arrivals[i].ns, (uint32_t)t->arrivals[i].number, 0};
    t->arrival_count -= count;
    if (t->arrival_count) memmove(t->arrivals, t->arrivals + count, t->arrival_count * sizeof *t->arrivals);
    leave(e);
    return count;
}

uint32_t qe_streams(qe_engine *e, qe_transport *t, qe_track *only, int advance, int64_t now_ns, qe_stream_state *out,
                    uint32_t most) {
    uint32_t count = 0;
    enter(e);
    if (only) t = only->transport;
    for (uint32_t i = 0; i < t->stream_count && count < most; i++) {
        struct stream *stream = t->streams[i];
        struct reception *r = stream->reception;
        if (only && stream->track != only) continue;
        qe_stream_state *one = &out[count++];
        *one = (qe_stream_state){.track = stream->track->serial, .rid = stream->rid, .ssrc = r->ssrc,
                                 .retransmission = stream->retransmission, .packets = r->packets, .octets = r->octets,
                                 .width = r->width, .last_ns = r->last_ns, .layered = r->layered};
        if (r->layered) {
            memcpy(one->layer_octets, r->layer_octets, sizeof one->layer_octets);
            memcpy(one->layer_ns, r->layer_ns, sizeof one->layer_ns);
            memcpy(one->widths, r->widths, sizeof one->widths);
        }
        fill_report(r, now_ns, advance, one);
    }
    leave(e);
    return count;
}

uint32_t qe_senders(qe_engine *e, qe_transport *t, qe_sender_state *out, uint32_t most) {
    enter(e);
    uint32_t count = t->senders.count < most ? t->senders.count : most;
    for (uint32_t i = 0; i < count; i++) {
        qe_sender *sender = t->senders.items[i];
        const struct rewriter *s = &sender->out;
        struct reception *current = current_of(s);
        int32_t rid = sender->route && current ? rid_of(sender->route, current) : -1;
        out[i] = (qe_sender_state){sender->serial, sender->route ? sender->route->serial : 0, rid, s->retransmitted,
                                   s->packets, s->octets, s->last_ns, s->sequence, -1, -1};
        if (s->now && s->now->scalable) {
            out[i].spatial = s->layers.spatial;
            out[i].temporal = s->layers.temporal;
        }
    }
    leave(e);
    return count;
}

uint32_t qe_waiting(qe_engine *e, qe_transport *t, qe_layer *out, uint32_t most) {
    uint32_t count = 0;
    enter(e);
    for (uint32_t i = 0; i < t->senders.count && count < most && t->rtp_in; i++) {
        qe_sender *sender = t->senders.items[i];
        if (sender->route && is_waiting(&sender->out))
            out[count++] = (qe_layer){sender->route->serial, rid_of(sender->route, sender->out.wanted)};
    }
    leave(e);
    return count;
}

uint32_t qe_missing(qe_engine *e, qe_transport *t, int64_t now_ns, uint32_t *pairs, uint32_t most, qe_layer *broken,
                    uint32_t *broken_count, uint32_t most_broken) {
    uint32_t count = 0;
    *broken_count = 0;
    enter(e);
    for (uint32_t i = 0; i < t->stream_count; i++) {
        struct stream *stream = t->streams[i];
        struct reception *r = stream->reception;
        if (r->broken && *broken_count < most_broken) {
            r->broken = false;
            broken[(*broken_count)++] = (qe_layer){stream->track->serial, stream->rid};
        }
        if (!r->missing_count || count + r->missing_count > most) continue;
        uint16_t wanted[MOST_MISSING];
        uint32_t now_due = due(r, now_ns, wanted);
        for (uint32_t k = 0; k < now_due; k++, count++) {
            pairs[2 * count] = r->ssrc;
            pairs[2 * count + 1] = wanted[k];
        }
    }
    leave(e);
    return count;
}

/* -- for tests ------------------------------------------------------------------------------------------------------- */

void qe_feed(qe_engine *e, const uint8_t *address, const uint8_t *data, uint32_t length, int64_t now_ns) {
    if (length > SLOT) return;
    enter(e);
    if (length) memcpy(e->inbox.memory[0], data, length);
    take(e, address, e->inbox.memory[0], length, now_ns);
    signal_news(e);
    leave(e);
}

void qe_work(qe_engine *e) {
    enter(e);
    send_repeats(e);
    leave(e);
}

uint32_t qe_output(qe_engine *e, uint8_t *address, uint8_t *data, uint32_t most) {
    struct outbox *o = &e->outbox;
    enter(e);
    uint32_t length = 0;
    if (o->taken < o->queued && o->lengths[o->taken] <= most) {
        memcpy(address, o->to[o->taken].raw, sizeof o->to[o->taken].raw);
        length = o->lengths[o->taken];
        memcpy(data, o->memory[o->taken++], length);
    } else
        o->taken = o->queued = 0;
    leave(e);
    return length;
}
