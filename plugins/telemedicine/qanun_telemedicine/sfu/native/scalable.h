/* One stream that holds several layers: which of its packets a subscriber gets, and under which numbers. scalable.py in C. */

#define ALL_LAYERS (MOST_LAYERS - 1)
#define REMEMBERED 512
#define MOST_RESERVED 128

/* Which layers one subscriber wants and has. */
struct layers {
    uint8_t wanted_spatial, wanted_temporal, spatial, temporal;
    int target;   /* the decode target in use, for AV1; -1 for none */
    bool lacking; /* a wanted layer is sent and cannot be joined before a key frame */
};

static void want_layers(struct layers *l, uint8_t spatial, uint8_t temporal) {
    l->wanted_spatial = spatial;
    l->wanted_temporal = temporal;
    l->lacking = false;
}

/* Another stream begins, with a key frame. */
static void restart_layers(struct layers *l) {
    l->spatial = l->wanted_spatial;
    l->temporal = l->wanted_temporal;
    l->target = -1;
    l->lacking = false;
}

static void step_layers(struct layers *l, const struct look *w) {
    if (w->key) {
        l->spatial = l->wanted_spatial;
        l->temporal = l->wanted_temporal;
        l->lacking = false;
        return;
    }
    if (!w->spatial) {
        l->lacking = false;
        if (l->wanted_spatial < l->spatial) l->spatial = l->wanted_spatial;
        if (l->wanted_temporal < l->temporal) l->temporal = l->wanted_temporal;
    }
    if (w->up && w->spatial <= l->spatial && w->temporal > l->temporal && w->temporal <= l->wanted_temporal)
        l->temporal = w->temporal;
    if (w->spatial > l->spatial && w->spatial <= l->wanted_spatial) {
        if (!w->predicted && w->spatial == l->spatial + 1 && w->temporal <= l->temporal)
            l->spatial = w->spatial;
        else
            l->lacking = true;
    }
}

static bool admit_by_target(struct layers *l, const struct descriptor *d, bool newest, bool *last) {
    const struct structure *s = d->structure;
    if (newest && d->begins) {
        int target = best_target(s, l->wanted_spatial, l->wanted_temporal);
        bool known = l->target >= 0 && l->target < s->target_count;
        /* What was not sent so far cannot be decoded, whatever may be begun there. */
        bool sent = known && d->indications[l->target] != NOT_PRESENT;
        if (d->attached || !known || (sent && d->indications[target] == SWITCH)) l->target = target;
        l->spatial = s->target_spatial[l->target];
        l->temporal = s->target_temporal[l->target];
        if (d->attached || !d->spatial) l->lacking = s->target_spatial[target] != l->spatial;
    }
    if (l->target < 0 || l->target >= s->target_count) return true;
    bool forward = d->indications[l->target] != NOT_PRESENT;
    *last = forward && d->ends && d->spatial == l->spatial;
    return forward;
}

/* Whether the subscriber gets this packet; `last`: it ends a picture there. */
static bool admit(struct layers *l, const struct packet *p, bool newest, bool *last) {
    *last = false;
    const struct look *w = &p->look;
    if (!p->glanced || !w->layered) return true;
    if (p->descriptor) return admit_by_target(l, p->descriptor, newest, last);
    if (newest && w->begins) step_layers(l, w);
    bool forward = w->spatial <= l->spatial && w->temporal <= l->temporal;
    *last = forward && w->ends && w->spatial == l->spatial;
    return forward;
}

/* A number of ours: for which of theirs, since which switch (0: unused), and whether it was the last of its picture. */
struct given {
    uint32_t number;
    uint16_t ours, theirs;
    bool last, empty; /* empty: nothing was sent under it but a place holder */
};

/* Numbers without holes for a stream of which parts are left out. A packet that may still come keeps its number. */
struct numbers {
    struct given by_ours[REMEMBERED];
    uint16_t ours_of[REMEMBERED]; /* by theirs */
};

static void give(struct numbers *n, uint16_t ours, uint16_t theirs, uint32_t number, bool last) {
    n->by_ours[ours % REMEMBERED] = (struct given){number, ours, theirs, last, false};
    n->ours_of[theirs % REMEMBERED] = ours;
}

/* The `count` packets before number `theirs` of them have not come; `ours` is the last number that was given. */
static void reserve(struct numbers *n, uint16_t ours, uint16_t theirs, uint32_t count, uint32_t number) {
    for (uint32_t step = count > MOST_RESERVED ? count - MOST_RESERVED + 1 : 1; step <= count; step++)
        give(n, (uint16_t)(ours + step), (uint16_t)(theirs - count - 1 + step), number, false);
}

static struct given *known_number(struct numbers *n, uint16_t ours) {
    struct given *one = &n->by_ours[ours % REMEMBERED];
    return one->number && one->ours == ours ? one : NULL;
}

static struct given *late_number(struct numbers *n, uint16_t theirs, uint32_t number) {
    struct given *one = known_number(n, n->ours_of[theirs % REMEMBERED]);
    return one && one->theirs == theirs && one->number == number ? one : NULL;
}
