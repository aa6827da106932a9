/* The parsers of the C engine, one `target` at a time, and everything behind them.
 *
 * Under libFuzzer (clang -fsanitize=fuzzer) the program looks for inputs that break them: `parsers TARGET` is chosen by the
 * name of the program's file, parsers-TARGET. Built with -DREPLAY it reads lines "TARGET HEX" and prints what each input was
 * taken for, which test_fuzz.py compares with the Python side.
 *
 * Inputs lie in blocks of exactly their size, so that reading one byte too many is noticed. */

#include "engine.c"

#include <assert.h>
#include <stdio.h>

static int as_it_is(void *session, void *data, int *length) {
    (void)data;
    return !session || *length < 0;
}

static int with_trailer(void *session, void *data, int *length) {
    assert(session && *length >= HEADER && *length + 16 <= SLOT);
    memset((uint8_t *)data + *length, 0xAA, 16);
    *length += 16;
    return 0;
}

static void print_look(const struct look *w) {
    if (!w->valid) {
        printf("none");
        return;
    }
    printf("%d %d %d %d %d %d %d %d %d %d %d %d", w->key, w->width, w->picture_at, w->picture_long, w->tl0_at, w->begins,
           w->ends, w->predicted, w->up, w->layered, w->spatial, w->temporal);
    for (int i = 0; i < w->width_count; i++) printf(" %d", w->widths[i]);
}

static void payload(uint8_t codec, const uint8_t *data, uint32_t size) {
    struct look w = read_payload(codec, data, size);
    uint8_t copy[SLOT];
    if (size <= sizeof copy && w.valid) {
        memcpy(copy, data, size);
        assert(!w.picture_at || w.picture_at + (w.picture_long ? 2u : 1u) <= size);
        assert(!w.tl0_at || w.tl0_at < size);
        shift_numbers(copy, &w, 5, 5);
    }
    print_look(&w);
}

static void packet(const uint8_t *data, uint32_t size) {
    static struct extensions x;
    struct packet p;
    if (!parse_packet(&p, data, size)) {
        printf("none");
        return;
    }
    padding_only(&p);
    read_extensions(&x, &p);
    printf("%d %d %u %u %d %d %d", p.payload_type, p.sequence, p.timestamp, p.ssrc, p.marker, p.padding, p.payload_size);
    for (int id = 0; id < 256; id++)
        if (has(&x, (uint8_t)id)) {
            printf(" %d=", id);
            for (int i = 0; i < x.size[id]; i++) printf("%02x", x.at[id][i]);
        }
}

/* The first byte says how long the first descriptor is; the second one follows it. */
static void dependency(const uint8_t *data, uint32_t size) {
    static struct structure room[2];
    struct descriptor d;
    uint32_t first = size ? data[0] : 0;
    if (size < 1 || first > size - 1) {
        printf("none");
        return;
    }
    const struct structure *known = NULL;
    for (int turn = 0; turn < 2; turn++) {
        const uint8_t *from = turn ? data + 1 + first : data + 1;
        uint32_t length = turn ? size - 1 - first : first;
        if (length > 255) length = 255;
        if (!read_descriptor(&d, from, length, known, &room[turn])) {
            printf("none;");
            continue;
        }
        known = d.structure;
        struct look w = look_described(&d);
        print_look(&w);
        printf(" %d %d", d.frame, d.attached);
        for (int i = 0; i < known->target_count; i++) printf(" %d", d.indications[i]);
        printf(" %d;", best_target(known, 1, 1));
    }
}

static void red(const uint8_t *data, uint32_t size) {
    uint8_t copy[SLOT];
    uint16_t start = red_primary(data, size);
    if (start && size <= sizeof copy) {
        memcpy(copy, data, size);
        rename_red(copy, 5);
    }
    printf("%d", start);
}

/* A whole engine: one who sends every codec, one who gets it. Each piece of the input is one datagram or one order. */
static void demux(const uint8_t *data, uint32_t size) {
    enum { TRACKS = 5 };
    /* One of IPv6, one of IPv4. */
    static const uint8_t here[2][24] = {{10, 0, 4, 1, [8] = 0x20, 1, 0x0d, 0xb8, [23] = 1},
                                        {10, 0, 4, 2, [18] = 0xFF, 0xFF, 127, 0, 0, 1}};
    void *functions[2];
    int (*calls[2])(void *, void *, int *) = {with_trailer, as_it_is};
    memcpy(functions, calls, sizeof functions);
    static qe_engine *e; /* made once: it is large */
    if (!e) e = qe_new(-1, functions[0], functions[1]);
    qe_transport *from = qe_transport_add(e, 1), *to = qe_transport_add(e, 2);
    qe_transport_unlock(e, from, e, e);
    qe_transport_unlock(e, to, e, e);
    qe_bind(e, here[0], from);
    qe_bind(e, here[1], to);
    qe_send_to(e, to, here[1]);
    qe_transport_extensions(e, from, 4, 10, 11, 3);
    qe_extension carried[] = {{0, 1}, {1, 12}, {2, 5}};
    qe_track *tracks[TRACKS];
    qe_sender *sender[TRACKS];
    for (uint8_t i = 0; i < TRACKS; i++) {
        char mid[2] = {(char)('0' + i), 0};
        qe_track_spec spec = {.serial = 10u + i, .video = i > 0, .payload_type = (uint8_t)(96 + i),
                              .rtx_payload_type = i ? (int16_t)(106 + i) : -1, .red_payload_type = i ? -1 : 63, .codec = i,
                              .descriptor_id = 12, .clock_rate = 90000, .level_id = 1, .mid = mid, .carried = carried,
                              .carried_count = 3};
        tracks[i] = qe_publish(e, from, &spec);
        qe_sender_spec out = {.serial = 20u + i, .video = i > 0, .payload_types = {96, 97, 98, 99, 100, 101},
                              .rtx_payload_types = {-1, 107, 108, 109, 110, -1}, .red_payload_type = -1, .wide = 1,
                              .ssrc = 500u + i, .rtx_ssrc = 600u + i, .clock_rate = 90000, .number_id = 3,
                              .first_sequence = 100, .carried = {2, 9, 5, -1, -1, -1, -1, -1}};
        sender[i] = qe_sender_add(e, to, &out);
        qe_route(e, sender[i], tracks[i], 0, 1);
    }
    qe_tap(e, tracks[2], 1);
    int64_t clock_ns = 1000000000;
    uint8_t raw[24], out[SLOT];
    const uint8_t *records;
    while (size > 2) {
        uint32_t what = data[0], length = (data[1] & 7u) << 8 | data[2];
        data += 3;
        size -= 3;
        clock_ns += 5000000;
        if (length > size) length = size;
        if (what < 200) {
            uint8_t *exact = malloc(length ? length : 1);
            memcpy(exact, data, length);
            enter(e);
            take(e, here[what & 1], exact, length, clock_ns);
            leave(e);
            free(exact);
        } else {
            qe_sender *one = sender[what % TRACKS];
            uint16_t again[4];
            for (int i = 0; i < 4; i++) again[i] = (uint16_t)(one->out.sequence - i);
            qe_retransmit(e, one, again, 4, clock_ns);
            qe_select_layers(e, one, what & 3, what >> 2 & 3);
            qe_route(e, one, tracks[what >> 3 & 3], what == 255, clock_ns);
            qe_work(e);
        }
        while (qe_output(e, raw, out, SLOT)) continue;
        data += length;
        size -= length;
    }
    qe_take_events(e, 0, &records);
    qe_take_events(e, 1, &records);
    qe_transport_remove(e, from);
    qe_transport_remove(e, to);
    printf("done");
}

static void run_target(const char *target, const uint8_t *data, uint32_t size) {
    if (!strcmp(target, "vp8")) payload(VP8, data, size);
    else if (!strcmp(target, "vp9")) payload(VP9, data, size);
    else if (!strcmp(target, "av1")) payload(AV1, data, size);
    else if (!strcmp(target, "h264")) payload(H264, data, size);
    else if (!strcmp(target, "packet")) packet(data, size);
    else if (!strcmp(target, "dependency")) dependency(data, size);
    else if (!strcmp(target, "red")) red(data, size);
    else if (!strcmp(target, "demux")) demux(data, size);
    else assert(!"a target");
}

#ifdef REPLAY
int main(void) {
    static char line[1 << 16], target[32];
    static uint8_t bytes[1 << 15];
    while (fgets(line, sizeof line, stdin)) {
        int at = 0;
        uint32_t size = 0;
        unsigned byte;
        if (sscanf(line, "%31s %n", target, &at) != 1) continue;
        for (const char *hex = line + at; sscanf(hex, "%2x", &byte) == 1; hex += 2) bytes[size++] = (uint8_t)byte;
        uint8_t *exact = malloc(size ? size : 1);
        memcpy(exact, bytes, size);
        run_target(target, exact, size);
        free(exact);
        printf("\n");
    }
    return 0;
}
#else
static const char *chosen;

int LLVMFuzzerInitialize(int *count, char ***values) {
    (void)count;
    const char *name = strrchr((*values)[0], '-');
    assert(name);
    chosen = name + 1;
    assert(freopen("/dev/null", "w", stdout));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    run_target(chosen, data, (uint32_t)size);
    return 0;
}
#endif
