/* Many participants on one thread: each sends sound and a picture's packets on its own socket, in time, and counts what comes.
 *
 * Packets are made and encrypted before the clock starts, since this thread has one processor for hundreds of people: each says
 * whose it is and which, and when it was sent is looked up. When it arrived is what the kernel noted as the server handed it over:
 * how long it then waited for this thread says nothing of the server. Compiled by rooms.py. */

#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SLOT = 2048, BATCH = 64, SAMPLE_EVERY = 13, ROUND = 64, SECOND = 1000000000 };

typedef int (*srtp_function)(void *session, void *packet, int *length);

struct client {
    int32_t fd;
    uint8_t to[16]; /* a sockaddr_in */
    int32_t sends;  /* Some servers want a connection for each direction: one that only receives sends nothing. */
    void *out, *in;
    uint64_t sent, received;
    uint32_t since_sample;
    /* Filled by prepare(), freed by drive(): packets one behind the other in the order in which they are due. */
    uint32_t count, next, sequence[2];
    int64_t phase_ns;
    uint8_t *packets, *at;
    uint16_t *lengths;
    int64_t *sent_at;
};

struct plan {
    uint32_t audio_rate, video_rate, audio_octets, video_octets, per_frame, key_every;
};

static uint8_t memory[BATCH][SLOT];
static struct iovec vectors[BATCH];
static struct mmsghdr headers[BATCH];
static union {
    struct cmsghdr aligned;
    char room[CMSG_SPACE(sizeof(struct timespec))];
} notes[BATCH];

static int64_t read_clock(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static int64_t now(void) { return read_clock(CLOCK_MONOTONIC); }

/* The kernel's note of when a datagram came, on the clock that it uses; 0 without one. */
static int64_t noted(struct msghdr *header) {
    for (struct cmsghdr *each = CMSG_FIRSTHDR(header); each; each = CMSG_NXTHDR(header, each))
        if (each->cmsg_level == SOL_SOCKET && each->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(each), sizeof t);
            return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
        }
    return 0;
}

static void put16(uint8_t *at, uint32_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }
static void put32(uint8_t *at, uint32_t value) { put16(at, value >> 16), put16(at + 2, value); }

static int make(struct client *c, const struct plan *p, int video, uint32_t owner, uint8_t *to, srtp_function protect) {
    uint32_t count = c->sequence[video]++, frame = count / p->per_frame, place = count % p->per_frame;
    uint32_t octets = video ? p->video_octets : p->audio_octets, which[2] = {owner, c->count};
    to[0] = 0x90;
    to[1] = (uint8_t)(video ? 96 | (place + 1 == p->per_frame ? 0x80 : 0) : 111);
    put16(to + 2, count + 1);
    put32(to + 4, video ? frame * 3000 : count * 960);
    put32(to + 8, video ? 0x2000 : 0x1000);
    put32(to + 12, 0xBEDE0001);
    to[16] = 3 << 4 | 1;
    put16(to + 17, c->count + 1);
    to[19] = 0;
    uint8_t *payload = to + 20;
    memset(payload, 0x5A, octets);
    if (video) {
        payload[0] = place ? 0x80 : 0x90;
        payload[1] = 0x80;
        put16(payload + 2, 0x8000 | (frame & 0x7FFF));
        if (!place && frame % p->key_every == 0) memcpy(payload + 4, "\x50\x31\x00\x9d\x01\x2a\x00\x05\xd0\x02", 10);
        else payload[4] = 0x51;
    }
    memcpy(payload + octets - sizeof which, which, sizeof which);
    int length = (int)(20 + octets);
    return protect(c->out, to, &length) ? 0 : length;
}

/* Nanoseconds from the start until the `count`th packet of a kind is due. */
static int64_t due(uint32_t count, uint32_t rate) { return (int64_t)count * SECOND / rate; }

static int next_is_video(const struct client *c, const struct plan *p) {
    return due(c->sequence[1] + 1, p->video_rate) < due(c->sequence[0] + 1, p->audio_rate);
}

/* All that a participant will send, who begins at a moment of their own: nobody's packets keep step with another's. 0, or -1 when
 * a packet could not be encrypted or there is no memory. */
static int prepare_one(struct client *c, const struct plan *p, uint32_t owner, int64_t until, srtp_function protect) {
    size_t most = (size_t)(until / SECOND + 1) * (p->audio_rate + p->video_rate), used = 0;
    size_t room = (size_t)(until / SECOND + 1) *
                  (p->audio_rate * (p->audio_octets + ROUND) + p->video_rate * (p->video_octets + ROUND));
    c->count = c->next = c->sequence[0] = c->sequence[1] = 0;
    /* Steps of the golden ratio fill the time between two packets of sound evenly, however many they are. */
    c->phase_ns = (int64_t)(owner * 2654435769u) * (SECOND / p->audio_rate) >> 32;
    c->packets = c->at = malloc(room);
    c->lengths = calloc(most, sizeof *c->lengths);
    c->sent_at = calloc(most, sizeof *c->sent_at);
    if (!c->packets || !c->lengths || !c->sent_at) return -1;
    for (;;) {
        int video = next_is_video(c, p);
        if (due(c->sequence[video] + 1, video ? p->video_rate : p->audio_rate) + c->phase_ns > until) break;
        int length = make(c, p, video, owner, c->packets + used, protect);
        if (!length) return -1;
        c->lengths[c->count++] = (uint16_t)length;
        used += (size_t)length;
    }
    c->sequence[0] = c->sequence[1] = 0;
    return 0;
}

static void release(struct client *c) {
    free(c->packets), free(c->lengths), free(c->sent_at);
    c->packets = NULL, c->lengths = NULL, c->sent_at = NULL;
}

/* What a participant owes until now, in one call of the kernel. */
static void send_due(struct client *c, const struct plan *p, int64_t passed_ns) {
    int count = 0;
    int64_t clock = read_clock(CLOCK_REALTIME);
    for (; c->next < c->count && count < BATCH; count++) {
        int video = next_is_video(c, p);
        if (due(c->sequence[video] + 1, video ? p->video_rate : p->audio_rate) + c->phase_ns > passed_ns) break;
        c->sequence[video]++;
        vectors[count] = (struct iovec){c->at, c->lengths[c->next]};
        headers[count].msg_hdr = (struct msghdr){
            .msg_name = c->to, .msg_namelen = sizeof(struct sockaddr_in), .msg_iov = &vectors[count], .msg_iovlen = 1};
        c->sent_at[c->next] = clock;
        c->at += c->lengths[c->next++];
    }
    if (count) {
        int sent = sendmmsg(c->fd, headers, (unsigned)count, 0);
        if (sent > 0) c->sent += (uint64_t)sent;
    }
}

static void drain(const struct client *all, uint32_t everybody, struct client *c, srtp_function unprotect, uint32_t *delays_us,
                  uint32_t room, uint32_t *made) {
    int count;
    do {
        for (int i = 0; i < BATCH; i++) {
            vectors[i] = (struct iovec){memory[i], SLOT};
            headers[i].msg_hdr = (struct msghdr){
                .msg_iov = &vectors[i], .msg_iovlen = 1, .msg_control = &notes[i], .msg_controllen = sizeof notes[i]};
        }
        count = recvmmsg(c->fd, headers, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < count; i++) {
            const uint8_t *data = memory[i];
            int length = (int)headers[i].msg_len;
            if (length < 20 || data[0] >> 6 != 2 || (data[1] >= 192 && data[1] <= 223)) continue;
            c->received++;
            if (++c->since_sample < SAMPLE_EVERY || *made == room) continue;
            c->since_sample = 0;
            if (unprotect(c->in, memory[i], &length) || length < 20) continue;
            uint32_t which[2];
            memcpy(which, data + length - sizeof which, sizeof which);
            if (which[0] >= everybody || which[1] >= all[which[0]].count) continue;
            int64_t at = noted(&headers[i].msg_hdr), sent = all[which[0]].sent_at[which[1]];
            if (at > sent && at - sent < 60ll * SECOND) delays_us[(*made)++] = (uint32_t)((at - sent) / 1000);
        }
    } while (count == BATCH);
}

/* Everything that these will send in so many seconds. 0, or -1 when it cannot be made. Call before drive(). */
int prepare(struct client *clients, uint32_t count, double seconds, const struct plan *plan, void *protect_at) {
    srtp_function protect;
    memcpy(&protect, &protect_at, sizeof protect);
    for (uint32_t i = 0; i < count; i++)
        if (clients[i].sends && prepare_one(&clients[i], plan, i, (int64_t)(seconds * SECOND), protect)) return -1;
    return 0;
}

/* For so many seconds; then half a second more only listening. The number of delays measured. */
uint32_t drive(struct client *clients, uint32_t count, double seconds, const struct plan *plan, void *unprotect_at,
               uint32_t *delays_us, uint32_t room) {
    srtp_function unprotect;
    memcpy(&unprotect, &unprotect_at, sizeof unprotect);
    int poll = epoll_create1(0);
    uint32_t made = 0, next = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(poll, EPOLL_CTL_ADD, clients[i].fd, &event);
        setsockopt(clients[i].fd, SOL_SOCKET, SO_TIMESTAMPNS, &(int){1}, sizeof(int));
    }
    int64_t began = now(), last = (int64_t)(seconds * SECOND), at = 0;
    while ((at = now() - began) < last + SECOND / 2) {
        /* Few at a time and without a pause: what several owed at once would arrive as a crowd that no network makes. */
        for (uint32_t turn = 0; turn < 8 && turn < count && at < last; turn++, next = (next + 1) % count)
            if (clients[next].sends) send_due(&clients[next], plan, at);
        struct epoll_event ready[16];
        int found = epoll_wait(poll, ready, 16, 0);
        for (int i = 0; i < found; i++)
            drain(clients, count, &clients[ready[i].data.u32], unprotect, delays_us, room, &made);
    }
    close(poll);
    for (uint32_t i = 0; i < count; i++) release(&clients[i]);
    return made;
}
