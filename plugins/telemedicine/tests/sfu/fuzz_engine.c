/* The C engine under the sanitizers, without Python: `fuzz SEED STEPS` feeds it packets and orders from a dice,
 * `outbox STEPS` sends through a kernel that refuses now and then, `threads MILLISECONDS` runs its thread on a real
 * socket while orders come from another one.
 *
 * Encryption is left out: `unprotect` takes any packet, so that rubbish reaches the parsers. Datagrams lie in blocks of
 * exactly their size, so that reading one byte too many is noticed. */

#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static uint64_t state;
static uint32_t roll(uint32_t sides) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 11) % sides;
}

/* The kernel of `outbox`: looks at what it is given, and answers as kernels do on bad days. */
enum { NO_SOCKET = 999 };
static int refuses_to_cut;
static uint64_t taken_over, lost_on_the_way;
static uint32_t expected[256];

static bool without_six;
static void address_of(int who, uint8_t *raw);

static void look_at(const uint8_t *data, uint32_t size, const void *name, socklen_t room) {
    const uint8_t *given = name;
    uint8_t raw[24];
    uint32_t number, whom = given[3];
    assert(size >= 8);
    address_of((int)whom, raw);
    if (!without_six || (raw[8] && raw[9])) /* IPv6 goes to the kernel as it is, which refuses it */
        assert(room == 28 && !memcmp(given, raw, sizeof raw));
    else
        assert(room == 16 && given[0] == AF_INET && !memcmp(given + 2, raw + 2, 2) && !memcmp(given + 4, raw + 20, 4));
    memcpy(&number, data, 4);
    assert(data[4] == whom && number >= expected[whom]); /* to the right one, and in order */
    expected[whom] = number + 1;
    taken_over++;
}

static int kernel_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) {
    if (fd != NO_SOCKET) return sendmmsg(fd, messages, count, flags);
    for (unsigned i = 0; i < count; i++) {
        const struct msghdr *m = &messages[i].msg_hdr;
        int fails = roll(12) ? 0 : roll(3) ? EINTR : ECONNREFUSED;
        if (m->msg_iovlen > 1 && (refuses_to_cut || !roll(20))) fails = refuses_to_cut ? refuses_to_cut : EINVAL;
        if (fails) {
            if (!i && fails == ECONNREFUSED) lost_on_the_way += m->msg_iovlen;
            errno = fails;
            return i ? (int)i : -1;
        }
        uint32_t size = (uint32_t)m->msg_iov[0].iov_len, whole = 0;
        uint16_t cut = 0;
        if (m->msg_control) memcpy(&cut, CMSG_DATA((struct cmsghdr *)m->msg_control), sizeof cut);
        assert(m->msg_iovlen == 1 ? !m->msg_control : cut == size && m->msg_iovlen <= 64);
        for (size_t k = 0; k < m->msg_iovlen; k++) {
            assert(m->msg_iov[k].iov_len == size || (k + 1 == m->msg_iovlen && m->msg_iov[k].iov_len < size));
            whole += (uint32_t)m->msg_iov[k].iov_len;
            look_at(m->msg_iov[k].iov_base, (uint32_t)m->msg_iov[k].iov_len, m->msg_name,
                    m->msg_namelen);
        }
        assert(whole < 65507);
    }
    return (int)count;
}

static ssize_t kernel_sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t room) {
    if (fd != NO_SOCKET) return sendto(fd, data, size, flags, to, room);
    if (!roll(12)) {
        lost_on_the_way++;
        return -1;
    }
    look_at(data, (uint32_t)size, to, room);
    return (ssize_t)size;
}

#define sendmmsg kernel_sendmmsg
#define sendto kernel_sendto
#include "engine.c"
#undef sendmmsg
#undef sendto

#include <arpa/inet.h>

static int take_as_is(void *session, void *data, int *length) {
    (void)data;
    return session == NULL || *length < 0;
}

static int add_trailer(void *session, void *data, int *length) {
    if (!session || *length % 97 == 0) return 1; /* libsrtp refuses at times */
    assert(*length >= HEADER && *length + 16 <= SLOT);
    memset((uint8_t *)data + *length, 0xAA, 16);
    *length += 16;
    return 0;
}

enum { TRANSPORTS = 4, TRACKS = 6, SENDERS = 8 };
static qe_engine *engine;
static qe_transport *transports[TRANSPORTS];
static qe_track *tracks[TRACKS];
static qe_sender *senders[SENDERS];
static uint32_t serial = 1;
static int64_t clock_ns = 3 * (int64_t)SECOND_NS;
static uint16_t sequences[32];
static uint64_t made, events_read;

/* One in two is of IPv6, and a few differ in nothing but where they stand in a network. */
static void address_of(int who, uint8_t *raw) {
    memset(raw, 0, 24);
    raw[0] = AF_INET6;
    raw[2] = 4, raw[3] = (uint8_t)who;
    if (who & 1)
        raw[8] = 0x20, raw[9] = 1, raw[10] = 0x0d, raw[11] = 0xb8, raw[15] = (uint8_t)(who >> 4), raw[23] = (uint8_t)who;
    else
        raw[18] = raw[19] = 0xFF, raw[20] = 127, raw[23] = (uint8_t)(1 + (who >> 5));
}

static void connect_transport(int who) {
    uint8_t raw[24];
    address_of(who, raw);
    transports[who] = qe_transport_add(engine, serial++);
    qe_transport_unlock(engine, transports[who], transports, transports);
    qe_bind(engine, raw, transports[who]);
    if (roll(4)) qe_send_to(engine, transports[who], raw);
    for (int other = roll(6); other; other--) {
        uint8_t more[24];
        address_of(10 + (int)roll(200), more);
        qe_bind(engine, more, transports[who]);
    }
    qe_transport_extensions(engine, transports[who], 4, 10, 11, 3);
}

static void publish(int index) {
    const char *rids[] = {"q", "h", "f"};
    uint32_t known[] = {20, 21};
    int32_t layers[] = {-1, -1};
    qe_extension carried[] = {{0, 1}, {4, 13}, {2, 5}, {9, 6}, {1, 12}};
    const uint8_t codecs[] = {OPUS, VP8, VP9, OPUS, AV1, H264};
    char mid[4] = {(char)('0' + index), 0};
    qe_track_spec spec = {.serial = serial++, .video = index % 3 != 0, .payload_type = (uint8_t)(96 + 2 * (index % 3)),
                          .rtx_payload_type = index % 2 ? (int16_t)(97 + 2 * (index % 3)) : -1,
                          .red_payload_type = index % 3 ? -1 : 99, .codec = codecs[index], .descriptor_id = 12,
                          .clock_rate = 90000,
                          .level_id = 1, .mid = mid, .rids = rids, .rid_count = index % 3 == 1 ? 3 : 0, .ssrcs = known,
                          .ssrc_rids = layers, .ssrc_count = index == 2 ? 2 : 0, .carried = carried, .carried_count = 5};
    tracks[index] = qe_publish(engine, transports[index % TRANSPORTS], &spec);
}

static void add_sender(int index) {
    qe_sender_spec spec = {.serial = serial++, .video = index % 2, .payload_types = {111, 120, 122, 124, 126, -1},
                           .rtx_payload_types = {-1, index % 3 ? 121 : -1, 123, 125, -1, -1}, .ssrc = 500 + (uint32_t)index,
                           .red_payload_type = index % 3 ? 63 : -1, .wide = index % 2, .rtx_ssrc = 600 + (uint32_t)index,
                           .clock_rate = 90000, .number_id = (uint8_t)(index % 3 ? 6 : 20),
                           .first_sequence = (uint16_t)(1 + roll(0x3FFF)), .first_timestamp = roll(1u << 31),
                           .carried = {2, 12, 15, 14, 7, -1, -1, -1}};
    senders[index] = qe_sender_add(engine, transports[index % TRANSPORTS], &spec);
}

/* A packet that looks like one, with mistakes: its size. */
static uint32_t draw(uint8_t *to) {
    uint32_t stream = roll(12), at = HEADER;
    sequences[stream] = (uint16_t)(sequences[stream] + (roll(20) ? 1 : roll(300)));
    memset(to, 0, HEADER);
    to[0] = (uint8_t)(0x80 | (roll(8) ? 0 : 32) | (roll(3) ? 16 : 0) | (roll(10) ? 0 : roll(16)));
    to[1] = (uint8_t)(96 + roll(6) + (roll(3) ? 0 : 128));
    put16(to + 2, roll(12) ? sequences[stream] : roll(65536));
    put32(to + 4, roll(UINT32_MAX));
    put32(to + 8, roll(60) ? stream + (stream > 8 ? 12 : 0) : roll(UINT32_MAX));
    at += 4u * (to[0] & 15);
    if (to[0] & 16) {
        uint8_t *head = to + at;
        uint32_t body = 0;
        put16(head, roll(6) ? ONE_BYTE_PROFILE : 0x1000 | roll(20));
        uint8_t *one = head + 4;
        const uint8_t ids[] = {4, 10, 11, 3, 1, 13, 5, 12, 12, 0, 15};
        for (uint32_t count = roll(6); count; count--) {
            uint8_t id = ids[roll(sizeof ids)], size = (uint8_t)(1 + roll(3));
            if (head[0] == 0xBE)
                one[body++] = (uint8_t)(id << 4 | (size - 1));
            else
                one[body++] = id, one[body++] = size;
            one[body] = id == 4 ? (uint8_t)('0' + roll(TRACKS)) : (uint8_t)"qhfz"[roll(4)];
            one[body + 1] = (uint8_t)roll(256);
            if (id == 12 && head[0] != 0xBE && roll(3)) {
                /* A dependency descriptor: of one layer, of three, or nonsense. */
                const uint8_t three[] = {0xC0, 0, 7, 0x80, 0, 0x40, 0x4C, 0x5B, 0xAA, 0x00, 0x80, 0, 0, 0, 0, 0, 0, 0};
                size = one[body - 1] = (uint8_t)sizeof three;
                memcpy(one + body, three, sizeof three);
                for (uint32_t odd = roll(5); odd; odd--) one[body + 3 + roll(15)] = (uint8_t)roll(256);
            }
            body += size;
        }
        while (body % 4) one[body++] = 0;
        put16(head + 2, roll(40) ? body / 4 : roll(65536));
        at += 4 + body;
    }
    if (roll(3)) {
        const uint8_t key[] = {0x90, 0xE0, 0x81, 0x02, 7, 0x20, 0x10, 2, 0, 0x9d, 1, 0x2a, 0x80, 2, 0xe0, 1};
        memcpy(to + at, key, sizeof key);
        if (roll(3)) to[at + 6] |= 1;
        if (!roll(6)) to[at + roll(sizeof key)] = (uint8_t)roll(256);
        if (roll(2)) {
            const uint8_t firsts[] = {0xAA, 0xAE, 0xE8, 0x08, 0x67, 0x78, 0x7C, 0xBA, 0x85};
            to[at] = firsts[roll(sizeof firsts)];
            if (to[at] == 0x78) to[at + 1] = 0, to[at + 2] = 10, to[at + 3] = 0x67;
            if (to[at] == 0x7C) to[at + 1] = 0x87;
            if (roll(2)) to[at + 3] = (uint8_t)roll(256);
        }
        at += roll(10) ? sizeof key : roll(sizeof key);
    }
    for (uint32_t more = roll(4) ? roll(40) : roll(1500); more && at < MAX_PACKET; more--) to[at++] = (uint8_t)roll(256);
    if (to[0] & 32 && roll(6)) to[at - 1] = (uint8_t)(1 + roll(12));
    return !roll(30) ? roll(at + 1) : at;
}

static void feed(void) {
    static uint8_t drawn[8 * SLOT];
    uint32_t size = draw(drawn);
    uint8_t *exact = malloc(size ? size : 1), raw[24];
    memcpy(exact, drawn, size);
    if (!roll(100)) size = 0;
    if (size && !roll(60)) exact[0] = (uint8_t)roll(256);
    if (size > 1 && !roll(60)) exact[1] = (uint8_t)(192 + roll(32));
    address_of((int)roll(roll(20) ? TRANSPORTS : 255), raw);
    enter(engine);
    take(engine, raw, exact, size, clock_ns);
    leave(engine);
    free(exact);
}

static void read_events(void) {
    for (int which = 0; which < 2; which++) {
        const uint8_t *records;
        size_t size = qe_take_events(engine, which, &records), at = 0;
        while (at < size) {
            qe_event event;
            memcpy(&event, records + at, sizeof event);
            assert(event.kind >= QE_DATAGRAM && event.kind <= QE_TAPPED);
            at += sizeof event + ((event.length + 7) & ~7u);
            events_read++;
        }
        assert(at == size);
    }
}

static void ask(void) {
    static qe_numbered numbers[MOST_ARRIVALS];
    static uint32_t pairs[2 * MOST_MISSING * MOST_STREAMS];
    qe_stream_state streams[MOST_STREAMS];
    qe_sender_state states[SENDERS];
    qe_layer layers[MOST_STREAMS];
    qe_translated translated[SENDERS];
    qe_counters counters;
    uint32_t broken;
    qe_transport *t = transports[roll(TRANSPORTS)];
    qe_track *track = tracks[roll(TRACKS)];
    qe_streams(engine, t, NULL, (int)roll(2), clock_ns, streams, MOST_STREAMS);
    qe_senders(engine, t, states, SENDERS);
    qe_waiting(engine, t, layers, MOST_STREAMS);
    qe_missing(engine, t, clock_ns, pairs, MOST_MISSING * MOST_STREAMS, layers, &broken, MOST_STREAMS);
    qe_take_arrivals(engine, t, numbers, roll(MOST_ARRIVALS));
    qe_sent(engine, t, roll(65536), 100, numbers);
    qe_counters_of(engine, t, &counters);
    qe_figure(engine, (int)roll(8));
    if (track) {
        qe_level(engine, track);
        qe_streams(engine, NULL, track, 0, clock_ns, streams, MOST_STREAMS);
        qe_translate(engine, track, roll(12), roll(UINT32_MAX), state, clock_ns, translated, SENDERS);
    }
    read_events();
}

static void order(void) {
    uint32_t t = roll(TRANSPORTS), k = roll(TRACKS), s = roll(SENDERS);
    uint8_t raw[24];
    uint16_t wanted[6];
    switch (roll(14)) {
    case 0: case 1: case 2: case 3:
        qe_route(engine, senders[s], roll(12) ? tracks[k] : NULL, !roll(8), clock_ns);
        break;
    case 4: case 5:
        qe_select(engine, senders[s], (int32_t)roll(5) - 1);
        qe_select_layers(engine, senders[s], (uint8_t)roll(5), (uint8_t)roll(5));
        break;
    case 6:
        if (tracks[k]) qe_unpublish(engine, tracks[k]);
        tracks[k] = NULL;
        if (roll(8)) publish((int)k);
        break;
    case 7:
        qe_sender_remove(engine, senders[s]);
        add_sender((int)s);
        break;
    case 8:
        if (tracks[k]) qe_tap(engine, tracks[k], (int)roll(3));
        break;
    case 9:
        address_of((int)roll(250), raw);
        if (roll(2)) qe_bind(engine, raw, transports[t]);
        else qe_unbind(engine, raw);
        break;
    case 10:
        address_of((int)roll(250), raw);
        if (roll(2)) qe_send_to(engine, transports[t], raw);
        else qe_follow(engine, transports[t], raw);
        qe_target(engine, transports[t], raw);
        break;
    case 11:
        if (roll(6)) break;
        for (uint32_t i = 0; i < TRACKS; i++)
            if (i % TRANSPORTS == t && tracks[i]) tracks[i] = NULL;
        qe_transport_remove(engine, transports[t]);
        connect_transport((int)t);
        for (uint32_t i = 0; i < TRACKS; i++)
            if (i % TRANSPORTS == t) publish((int)i);
        for (uint32_t i = 0; i < SENDERS; i++)
            if (i % TRANSPORTS == t) add_sender((int)i);
        break;
    default:
        for (int i = 0; i < 6; i++) wanted[i] = (uint16_t)(senders[s]->out.sequence - roll(30) + 2);
        qe_retransmit(engine, senders[s], wanted, 6, clock_ns);
    }
}

static void begin(int fd) {
    void *functions[2];
    int (*calls[2])(void *, void *, int *) = {add_trailer, take_as_is};
    memcpy(functions, calls, sizeof functions);
    engine = qe_new(fd, functions[0], functions[1]);
    for (int i = 0; i < TRANSPORTS; i++) connect_transport(i);
    for (int i = 0; i < TRACKS; i++) publish(i);
    for (int i = 0; i < SENDERS; i++) {
        add_sender(i);
        qe_route(engine, senders[i], tracks[roll(TRACKS)], 0, clock_ns);
    }
}

static void fuzz(long steps) {
    uint8_t raw[24], data[SLOT];
    begin(-1);
    for (long i = 0; i < steps; i++) {
        clock_ns += roll(10) ? roll(30000000) : roll(2000000000);
        uint32_t what = roll(100);
        if (what < 88) feed();
        else if (what < 97) order();
        else ask();
        if (!roll(20)) qe_work(engine);
        if (!roll(5))
            while (qe_output(engine, raw, data, SLOT)) made++;
    }
    read_events();
}

static void send_much(long steps, int refusal) {
    struct outbox *o = calloc(1, sizeof *o);
    o->four = without_six = refusal == EINVAL;
    uint32_t numbers[256] = {0};
    for (long i = 0; i < steps; i++) {
        refuses_to_cut = i > steps / 2 ? refusal : 0;
        assert(refuses_to_cut || !o->whole);
        uint32_t room = roll(10) ? roll(20) : SEND, whoms = 1 + roll(roll(3) ? 4 : 200), usual = 8 + roll(1200);
        for (o->queued = 0; o->queued < room; o->queued++) {
            uint8_t whom = (uint8_t)roll(whoms), *slot = o->memory[o->queued];
            address_of(whom, o->to[o->queued].raw);
            memcpy(slot, &numbers[whom], 4);
            slot[4] = whom;
            numbers[whom]++;
            o->lengths[o->queued] = roll(4) ? usual : 8 + roll(1200);
            made++;
        }
        flush(o, NO_SOCKET);
        assert(taken_over + o->unsent == made && o->unsent == lost_on_the_way);
    }
    assert(o->whole && o->joined);
    free(o);
    taken_over = lost_on_the_way = made = 0;
    memset(expected, 0, sizeof expected);
}

static void threads(long milliseconds) {
    static uint8_t drawn[8 * SLOT];
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), peers[TRANSPORTS];
    assert(!bind(fd, (struct sockaddr *)&here, sizeof here) && !getsockname(fd, (struct sockaddr *)&here, &size));
    begin(fd);
    assert(!qe_start(engine));
    for (int i = 0; i < TRANSPORTS; i++) {
        struct sockaddr_in there = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        peers[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        assert(!bind(peers[i], (struct sockaddr *)&there, sizeof there));
        size = sizeof there;
        getsockname(peers[i], (struct sockaddr *)&there, &size);
    }
    for (int64_t end = now() + milliseconds * 1000000; now() < end;) {
        clock_ns = now();
        for (int i = 0; i < 40; i++) {
            int peer = (int)roll(TRANSPORTS);
            union name there;
            size = sizeof there.four;
            getsockname(peers[peer], (struct sockaddr *)&there.four, &size);
            from_four(&there);
            if (!roll(20)) qe_bind(engine, there.raw, transports[peer]);
            if (!roll(20)) qe_send_to(engine, transports[peer], there.raw);
            uint32_t length = draw(drawn);
            sendto(peers[peer], drawn, length, 0, (struct sockaddr *)&here, sizeof here);
        }
        /* `order` looks into a section to ask for what went out: not while the thread may write there. */
        for (int i = 0; i < 3; i++) {
            enter(engine);
            uint16_t wanted[4];
            uint32_t s = roll(SENDERS);
            for (int k = 0; k < 4; k++) wanted[k] = (uint16_t)(senders[s]->out.sequence - roll(30));
            leave(engine);
            qe_retransmit(engine, senders[s], wanted, 4, clock_ns);
        }
        qe_route(engine, senders[roll(SENDERS)], tracks[roll(TRACKS)], 0, clock_ns);
        if (!roll(4)) {
            int index = (int)roll(TRACKS);
            qe_unpublish(engine, tracks[index]);
            publish(index);
        }
        if (!roll(6)) qe_tap(engine, tracks[roll(TRACKS)], (int)roll(2));
        ask();
        for (int i = 0; i < TRANSPORTS; i++)
            while (recv(peers[i], drawn, sizeof drawn, 0) > 0) made++;
    }
    qe_stop(engine);
    for (int i = 0; i < TRANSPORTS; i++) close(peers[i]);
    close(fd);
}

int main(int count, char **words) {
    long amount = count > 2 ? atol(words[2]) : 100000;
    state = 88172645463325252ull;
    if (count > 1 && !strcmp(words[1], "threads")) threads(amount);
    else if (count > 1 && !strcmp(words[1], "outbox")) {
        send_much(amount, EIO);
        send_much(amount, EINVAL);
        return 0;
    } else {
        state += count > 1 ? strtoull(words[1], NULL, 10) * 0x9E3779B97F4A7C15ull : 0;
        fuzz(amount);
    }
    qe_free(engine);
    printf("%llu packets made, %llu events\n", (unsigned long long)made, (unsigned long long)events_read);
    return made == 0;
}
