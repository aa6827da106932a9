/* The data plane in C: one thread that receives, decrypts, rewrites, encrypts and sends, without Python.
 *
 * What it does is written down, and tested, in engine_python.py; the two give the same bytes for the same packets.
 *
 * Rules of the threads:
 * - The thread alone touches the libsrtp sessions of RTP, the socket's receiving side and the outbox. Whoever wants
 *   something encrypted leaves it in `repeats` and wakes the thread. SRTCP has sessions of its own, which belong to
 *   Python's thread alone: encrypted RTCP is passed up as it came and sent from there. So no srtp_t ever sees two
 *   threads, and no lock protects one.
 * - Everything else (who there is, who gets what, histories, counters) is under `lock`. The thread holds it while it
 *   works through one batch of at most 64 datagrams, not while it waits, receives or sends. Python's thread holds it for
 *   one call. The thread waits for whoever knocks meanwhile, asleep: a thread that yields instead is put behind the rest of
 *   Python's slice, and packets wait for milliseconds.
 * - What Python is told lies in `events`, under locks of their own that are held for a copy.
 * - The thread never calls Python. */

#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

#include "packet.h"
#include "payloads.h"
#include "dependency.h"
#include "reception.h"
#include "scalable.h"
#include "sender.h"
#include "outbox.h"
#include "state.h"
#include "addresses.h"

#define EVENTS_BYTES (1u << 20)
#define TAPPED_BYTES (8u << 20)
#define MOST_REPEATS 4096
#define LET_IN_NS 1000000
#define AHEAD 10
#define SLICE_NS 100000

/* libsrtp adds at most so much (SRTP_MAX_TRAILER_LEN). */
_Static_assert(MAX_PACKET + GROWTH + 16 + 128 <= SLOT, "what is rewritten and encrypted fits a slot");

typedef int (*srtp_function)(void *session, void *packet, int *length);

struct qe_engine {
    int fd, wake_fd, event_fd, epoll_fd;
    srtp_function protect, unprotect;
    pthread_t thread;
    bool running;
    atomic_bool stop;
    pthread_mutex_t lock;
    atomic_uint knocking;  /* calls that wait for the lock or hold it */
    atomic_bool let_in;    /* the thread sleeps until there are none */
    struct addresses addresses;
    uint64_t strangers;
    struct list transports;
    struct repeat *repeats, **last_repeat;
    uint32_t repeat_count;
    struct extensions extensions;
    struct scratch scratch;
    struct events events, tapped;
    bool news; /* something was added since event_fd was last written */
    struct inbox inbox;
    struct outbox outbox;
};

static void enter(qe_engine *e) {
    atomic_fetch_add(&e->knocking, 1);
    pthread_mutex_lock(&e->lock);
}

static void leave(qe_engine *e) {
    pthread_mutex_unlock(&e->lock);
    if (atomic_fetch_sub(&e->knocking, 1) == 1 && atomic_exchange(&e->let_in, false))
        syscall(SYS_futex, &e->knocking, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Whoever knocks comes first, but does not keep packets waiting for long. */
static void let_in(qe_engine *e) {
    const struct timespec longest = {.tv_nsec = LET_IN_NS};
    unsigned there = atomic_load(&e->knocking);
    if (!there) return;
    atomic_store(&e->let_in, true);
    syscall(SYS_futex, &e->knocking, FUTEX_WAIT_PRIVATE, there, &longest, NULL, 0);
    atomic_store(&e->let_in, false);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND_NS + t.tv_nsec;
}

/* -- telling Python ------------------------------------------------------------------------------------------------- */

static void tell(qe_engine *e, uint32_t kind, uint32_t serial, int32_t rid, int64_t now_ns, const uint8_t *address,
                 const uint8_t *data, uint32_t size) {
    qe_event event = {.kind = kind, .serial = serial, .rid = rid, .at_ns = now_ns};
    if (address) memcpy(event.address, address, sizeof event.address);
    uint32_t limit = e->events.capacity;
    /* A flood from strangers must leave room for what participants say. */
    if (kind == QE_DATAGRAM && !whose(&e->addresses, key_of(address))) limit /= 2;
    if (add_event(&e->events, limit, event, NULL, 0, data, size)) e->news = true;
}

static void signal_news(qe_engine *e) {
    if (!e->news) return;
    e->news = false;
    uint64_t one = 1;
    if (write(e->event_fd, &one, sizeof one) < 0) return; /* the counter is full: readable all the more */
}

/* -- one packet ----------------------------------------------------------------------------------------------------- */

static void follow(qe_engine *e, qe_transport *t, const uint8_t *address, int64_t now_ns) {
    memcpy(t->target.raw, address, sizeof t->target.raw);
    t->has_target = true;
    tell(e, QE_MOVED, t->serial, -1, now_ns, address, NULL, 0);
}

static void feed_taps(qe_engine *e, qe_track *track, struct stream *stream, const struct packet *p, int64_t now_ns) {
    if (stream != track->tapped) {
        /* Another layer only at its key frame, and only the widest. */
        if (track->video && !p->key) return;
        if (stream != best(track, now_ns)) return;
        track->tapped = stream;
    }
    uint8_t header[HEADER];
    uint8_t payload_type = p->red ? track->payload_type : p->payload_type;
    write_header(header, p->marker, p->padding, false, payload_type, p->sequence, p->timestamp, p->ssrc);
    qe_event event = {.kind = QE_TAPPED, .serial = track->serial, .rid = stream->rid, .at_ns = now_ns};
    if (add_event(&e->tapped, e->tapped.capacity, event, header, HEADER, p->payload + p->red,
                  (uint32_t)p->payload_size - p->red))
        e->news = true;
}

static uint8_t *free_slot(qe_engine *e) {
    struct outbox *o = &e->outbox;
    if (o->queued == SEND) {
        if (e->fd >= 0)
            flush(o, e->fd);
        else
            o->queued = o->taken = 0;
    }
    return o->memory[o->queued];
}

/* Encrypt what lies in the free slot and queue it: its size, or 0. */
static uint32_t seal(qe_engine *e, qe_transport *t, uint32_t size) {
    struct outbox *o = &e->outbox;
    int length = (int)size;
    if (e->protect(t->rtp_out, o->memory[o->queued], &length)) return 0;
    o->to[o->queued] = t->target;
    o->lengths[o->queued++] = (uint32_t)length;
    return (uint32_t)length;
}

static void forward(qe_engine *e, qe_track *track, struct reception *reception, struct packet *p, int64_t now_ns) {
    for (uint32_t i = 0; i < track->outputs.count; i++) {
        qe_sender *sender = track->outputs.items[i];
        qe_transport *t = sender->transport;
        if (!t->has_target || !t->rtp_out) continue;
        uint32_t size = rewrite(&sender->out, reception, p, &e->extensions, t->number, now_ns, free_slot(e));
        if (!size) continue;
        uint32_t length = seal(e, t, size);
        if (!length) {
            t->counters.failures++;
            continue;
        }
        t->counters.sent++;
        t->counters.sent_octets += length;
        if (sender->out.spec.number_id) log_sent(t, t->number++, length, now_ns);
    }
}

static void received(qe_engine *e, qe_transport *t, struct packet *p, uint32_t size, int64_t now_ns) {
    struct extensions *x = &e->extensions;
    read_extensions(x, p);
    if (t->number_id && has(x, t->number_id) && x->size[t->number_id] == 2)
        log_arrival(t, get16(x->at[t->number_id]), now_ns);
    struct stream *stream = stream_of(t, p->ssrc);
    if (!stream) {
        stream = learn(t, p, x);
        if (!stream) {
            t->counters.unrouted++;
            return;
        }
        if (!stream->retransmission) aim(stream->track, now_ns);
    }
    if (stream->retransmission) {
        arrived(stream->reception, p, size, now_ns);
        struct stream *primary = layer_of(stream->track, stream->rid);
        if (!primary || padding_only(p) || p->payload_size < 3) return;
        /* RFC 4588: the original sequence number, then the original payload. */
        p->sequence = get16(p->payload);
        p->payload += 2;
        p->payload_size -= 2;
        p->ssrc = primary->reception->ssrc;
        p->payload_type = primary->track->payload_type;
        stream = primary;
    }
    qe_track *track = stream->track;
    if (p->payload_type != track->payload_type) {
        if (p->payload_type == track->red_payload_type) p->red = red_primary(p->payload, p->payload_size);
        if (!p->red) {
            t->counters.unrouted++;
            return;
        }
    }
    struct reception *reception = stream->reception;
    if (!arrived(reception, p, size, now_ns)) return;
    if (reception->history) keep(reception, p);
    if (!track->started) {
        track->started = true;
        tell(e, QE_FIRST_PACKET, track->serial, -1, now_ns, NULL, NULL, 0);
    }
    if (track->video) {
        look(reception, p, x, size, now_ns, &e->scratch);
    } else if (track->level_id && has(x, track->level_id) && x->size[track->level_id]) {
        int32_t change = 127 - (x->at[track->level_id][0] & 127) - track->level;
        track->level += change >= 0 ? change / 4 : -((3 - change) / 4); /* rounded down, as Python does */
    }
    for (uint32_t i = 0; i < track->carried_count && !p->carried; i++) p->carried = has(x, track->carried[i].id);
    forward(e, track, reception, p, now_ns);
    if (track->taps) feed_taps(e, track, stream, p, now_ns);
}

static void take(qe_engine *e, const uint8_t *address, uint8_t *data, uint32_t length, int64_t now_ns) {
    if (length < 1 || length > MAX_PACKET) return;
    if (data[0] < 128 || data[0] > 191) {
        tell(e, QE_DATAGRAM, 0, -1, now_ns, address, data, length);
        return;
    }
    qe_transport *t = whose(&e->addresses, key_of(address));
    if (!t || !t->rtp_in || length < HEADER) {
        e->strangers++;
        return;
    }
    if (data[1] > 191 && data[1] < 224) {
        tell(e, QE_RTCP, t->serial, -1, now_ns, address, data, length);
        return;
    }
    int size = (int)length;
    if (e->unprotect(t->rtp_in, data, &size)) {
        t->counters.rejected++;
        return;
    }
    t->counters.received++;
    t->counters.received_octets += length;
    if (!t->has_target || !same_address(t->target.raw, address)) follow(e, t, address, now_ns);
    struct packet packet;
    if (size < 0 || !parse_packet(&packet, data, (uint32_t)size)) {
        t->counters.rejected++;
        return;
    }
    received(e, t, &packet, length, now_ns);
}

/* Encrypt and queue the retransmissions that Python ordered. */
static void send_repeats(qe_engine *e) {
    while (e->repeats) {
        struct repeat *one = e->repeats;
        qe_transport *t = one->transport;
        if (t->rtp_out && t->has_target) {
            uint8_t *slot = free_slot(e);
            memcpy(slot, one->data, one->size);
            if (one->number_at) put16(slot + one->number_at, t->number);
            uint32_t length = seal(e, t, one->size);
            if (length && one->numbered) log_sent(t, t->number++, length, one->ns);
        }
        e->repeats = one->next;
        e->repeat_count--;
        free(one);
    }
    e->last_repeat = &e->repeats;
}

static void drop_repeats(qe_engine *e, const qe_transport *t) {
    struct repeat **at = &e->repeats;
    while (*at) {
        struct repeat *one = *at;
        if (t && one->transport != t) {
            at = &one->next;
            continue;
        }
        *at = one->next;
        e->repeat_count--;
        free(one);
    }
    e->last_repeat = at;
}

/* -- the thread ----------------------------------------------------------------------------------------------------- */

/* Packets are little work that must not wait, for Python's thread least of all. Where that is not allowed, they wait a little.
 *
 * A priority alone does not do it: since Linux 6.6 whoever runs may finish a slice of some milliseconds before one that wakes.
 * From 6.12 on a thread that asks for shorter slices goes ahead: at once, or at the next tick where the kernel preempts lazily.
 * Earlier kernels ignore the wish. */
static void go_ahead(void) {
    (void)setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) - AHEAD);
    /* The kernel's struct sched_attr in its first version; the C library has had no name for it until lately. */
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime_ns, deadline_ns, period_ns;
    } wish = {.size = sizeof wish, .nice = getpriority(PRIO_PROCESS, 0), .runtime_ns = SLICE_NS};
    (void)syscall(SYS_sched_setattr, 0, &wish, 0);
}

static void *run(void *argument) {
    qe_engine *e = argument;
    go_ahead();
    while (!atomic_load(&e->stop)) {
        struct epoll_event ready[2];
        int count = epoll_wait(e->epoll_fd, ready, 2, -1);
        bool readable = false;
        for (int i = 0; i < count; i++) {
            uint64_t times;
            if (ready[i].data.fd == e->fd)
                readable = true;
            else if (read(e->wake_fd, &times, sizeof times) < 0)
                continue;
        }
        int datagrams;
        do {
            datagrams = readable ? receive_batch(&e->inbox, e->fd) : 0;
            int64_t now_ns = now();
            let_in(e);
            pthread_mutex_lock(&e->lock);
            send_repeats(e);
            for (int i = 0; i < datagrams; i++)
                take(e, e->inbox.from[i].raw, e->inbox.memory[i], e->inbox.headers[i].msg_len, now_ns);
            pthread_mutex_unlock(&e->lock);
            flush(&e->outbox, e->fd);
            signal_news(e);
        } while (datagrams == RECEIVE && !atomic_load(&e->stop));
    }
    return NULL;
}

static void wake(qe_engine *e) {
    uint64_t one = 1;
    if (write(e->wake_fd, &one, sizeof one) < 0) return; /* it is awake */
}

static bool begin_events(struct events *e, uint32_t capacity) {
    e->capacity = capacity;
    e->buffers[0] = malloc(capacity);
    e->buffers[1] = malloc(capacity);
    return !pthread_mutex_init(&e->lock, NULL) && e->buffers[0] && e->buffers[1];
}

qe_engine *qe_new(int fd, void *protect, void *unprotect) {
    qe_engine *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    e->fd = fd;
    int family = AF_INET6;
    if (fd >= 0) getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &(socklen_t){sizeof family});
    e->outbox.four = family == AF_INET;
    memcpy(&e->protect, &protect, sizeof protect);
    memcpy(&e->unprotect, &unprotect, sizeof unprotect);
    e->last_repeat = &e->repeats;
    e->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    e->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    bool whole = !pthread_mutex_init(&e->lock, NULL);
    whole = begin_events(&e->events, EVENTS_BYTES) && whole;
    whole = begin_events(&e->tapped, TAPPED_BYTES) && whole;
    if (whole && e->wake_fd >= 0 && e->event_fd >= 0 && e->epoll_fd >= 0) return e;
    qe_free(e);
    return NULL;
}

int qe_start(qe_engine *e) {
    int descriptors[2] = {e->fd, e->wake_fd};
    for (int i = 0; i < 2; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptors[i]};
        if (epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, descriptors[i], &event)) return errno;
    }
    /* Signals are for Python's threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&e->thread, NULL, run, e);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    e->running = !failed;
    return failed;
}

void qe_stop(qe_engine *e) {
    if (!e->running) return;
    atomic_store(&e->stop, true);
    wake(e);
    pthread_join(e->thread, NULL);
    e->running = false;
}

void qe_free(qe_engine *e) {
    if (!e) return;
    qe_stop(e);
    drop_repeats(e, NULL);
    while (e->transports.count) {
        qe_transport *t = e->transports.items[--e->transports.count];
        free_transport(t);
    }
    free(e->transports.items);
    free(e->addresses.places);
    struct events *buffers[2] = {&e->events, &e->tapped};
    for (int i = 0; i < 2; i++) {
        free(buffers[i]->buffers[0]);
        free(buffers[i]->buffers[1]);
        pthread_mutex_destroy(&buffers[i]->lock);
    }
    if (e->wake_fd >= 0) close(e->wake_fd);
    if (e->event_fd >= 0) close(e->event_fd);
    if (e->epoll_fd >= 0) close(e->epoll_fd);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

#include "calls.h"
