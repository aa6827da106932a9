/* Whose an address is, and the records for Python. */

/* Open addressing over whole addresses; `whose` NULL marks a free place. */
struct addresses {
    struct {
        address_t key;
        qe_transport *whose;
    } *places;
    uint32_t count, capacity; /* a power of two */
};

static address_t key_of(const uint8_t *raw) {
    address_t key;
    memcpy(&key, raw, sizeof key);
    return key;
}

/* Every bit of an address has a part in the low bits of this: neighbours of one network differ in its last byte alone. */
static uint32_t mix(const address_t *key) {
    uint64_t words[3];
    memcpy(words, key, sizeof words);
    uint64_t mixed = words[0] * 0x9E3779B97F4A7C15ull ^ words[1] * 0xD6E8FEB86659FD93ull ^ words[2];
    mixed = (mixed ^ mixed >> 32) * 0xFF51AFD7ED558CCDull;
    return (uint32_t)(mixed ^ mixed >> 29 ^ mixed >> 47);
}

static uint32_t place_of(const struct addresses *a, const address_t *key) {
    uint32_t at = mix(key) & (a->capacity - 1);
    while (a->places[at].whose && !same_address(a->places[at].key.raw, key->raw)) at = (at + 1) & (a->capacity - 1);
    return at;
}

static qe_transport *whose(const struct addresses *a, address_t key) {
    return a->count ? a->places[place_of(a, &key)].whose : NULL;
}

static bool set_address(struct addresses *a, address_t key, qe_transport *t) {
    if (2 * (a->count + 1) > a->capacity) {
        struct addresses larger = {.capacity = a->capacity ? 2 * a->capacity : 64, .count = a->count};
        larger.places = calloc(larger.capacity, sizeof *larger.places);
        if (!larger.places) return false;
        for (uint32_t i = 0; i < a->capacity; i++)
            if (a->places[i].whose) larger.places[place_of(&larger, &a->places[i].key)] = a->places[i];
        free(a->places);
        *a = larger;
    }
    uint32_t at = place_of(a, &key);
    if (!a->places[at].whose) a->count++;
    a->places[at].key = key;
    a->places[at].whose = t;
    return true;
}

static void drop_address(struct addresses *a, address_t key) {
    if (!a->count) return;
    uint32_t hole = place_of(a, &key);
    if (!a->places[hole].whose) return;
    a->places[hole].whose = NULL;
    a->count--;
    /* What stood behind it because its own place was taken moves up. */
    for (uint32_t at = (hole + 1) & (a->capacity - 1); a->places[at].whose; at = (at + 1) & (a->capacity - 1)) {
        qe_transport *t = a->places[at].whose;
        a->places[at].whose = NULL;
        uint32_t home = place_of(a, &a->places[at].key);
        a->places[home].key = a->places[at].key;
        a->places[home].whose = t;
    }
}

static void drop_addresses_of(struct addresses *a, const qe_transport *t) {
    for (uint32_t i = 0; i < a->capacity; i++)
        while (a->places[i].whose == t) drop_address(a, a->places[i].key);
}

/* Two buffers that take turns: one is filled while Python reads the other. */
struct events {
    pthread_mutex_t lock;
    uint8_t *buffers[2];
    uint32_t turn, used, capacity;
    uint64_t lost;
};

static bool add_event(struct events *e, uint32_t limit, qe_event event, const uint8_t *head, uint32_t head_size,
                      const uint8_t *data, uint32_t size) {
    event.length = head_size + size;
    uint32_t whole = (uint32_t)sizeof event + ((event.length + 7) & ~7u);
    pthread_mutex_lock(&e->lock);
    bool fits = e->used + whole <= limit;
    if (fits) {
        uint8_t *to = e->buffers[e->turn] + e->used;
        memcpy(to, &event, sizeof event);
        to += sizeof event;
        if (head_size) memcpy(to, head, head_size);
        if (size) memcpy(to + head_size, data, size);
        e->used += whole;
    } else
        e->lost++;
    pthread_mutex_unlock(&e->lock);
    return fits;
}
