/* The UDP socket, many packets at a time: datagrams.py in C. Belongs to the thread alone; no lock is needed.
 *
 * Packets of one flush that go to the same address and are equally long leave as one datagram that the kernel cuts up
 * (UDP GSO). Where it can't, they leave one by one. */

#define SLOT 2048
#define MAX_PACKET 1600
#define RECEIVE 64
#define SEND 256
/* The kernel's limits for one such datagram: segments, and bytes. */
#define CUT_MOST 64
#define CUT_BYTES 65000
/* A way with a small MTU also makes it refuse (EINVAL), but only there; so often in a row it is the kernel. */
#define REFUSALS 16
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

/* The first 24 bytes of a sockaddr_in6: family, port, an empty flow label, the address; IPv4 as IPv6 writes it. */
typedef struct {
    uint8_t raw[24];
} address_t;

/* What the kernel writes and wants. */
union name {
    uint8_t raw[sizeof(struct sockaddr_in6)];
    struct sockaddr_in6 six;
    struct sockaddr_in four;
};

struct inbox {
    uint8_t memory[RECEIVE][SLOT];
    union name from[RECEIVE];
    struct iovec vectors[RECEIVE];
    struct mmsghdr headers[RECEIVE];
};

struct outbox {
    uint8_t memory[SEND][SLOT];
    uint32_t lengths[SEND];
    uint32_t queued, taken; /* taken: by qe_output, in tests */
    address_t to[SEND];
    /* What leaves together. */
    uint32_t runs;
    struct {
        uint32_t first, last, count, size;
        bool open;
    } run[SEND];
    uint32_t next[SEND]; /* the slot of the same run after this one */
    union name names[SEND];
    struct iovec vectors[SEND];
    struct mmsghdr headers[SEND];
    union {
        struct cmsghdr align;
        uint8_t room[CMSG_SPACE(sizeof(uint16_t))];
    } controls[SEND];
    bool four;  /* the socket is for IPv4 alone: this machine has no IPv6 */
    bool whole; /* the kernel does not cut; found out when it refuses */
    uint32_t refusals;
    _Atomic uint64_t unsent, joined;
};

static const uint8_t MAPPED[12] = {[10] = 0xFF, [11] = 0xFF};

static bool same_address(const uint8_t *one, const uint8_t *other) {
    return !memcmp(one, other, sizeof(address_t));
}

/* From a socket for IPv4 alone, as every other address. */
static void from_four(union name *name) {
    struct sockaddr_in given = name->four;
    memset(name, 0, sizeof *name);
    name->six.sin6_family = AF_INET6;
    name->six.sin6_port = given.sin_port;
    memcpy(name->six.sin6_addr.s6_addr, MAPPED, sizeof MAPPED);
    memcpy(name->six.sin6_addr.s6_addr + sizeof MAPPED, &given.sin_addr, sizeof given.sin_addr);
}

static int receive_batch(struct inbox *in, int fd) {
    for (int i = 0; i < RECEIVE; i++) {
        in->vectors[i] = (struct iovec){in->memory[i], SLOT};
        in->headers[i].msg_hdr = (struct msghdr){
            .msg_name = &in->from[i], .msg_namelen = sizeof in->from[i], .msg_iov = &in->vectors[i], .msg_iovlen = 1};
    }
    int count = recvmmsg(fd, in->headers, RECEIVE, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++)
        if (in->from[i].four.sin_family == AF_INET) from_four(&in->from[i]);
    return count;
}

/* Its length. IPv6 stays what it is on a socket for IPv4 alone, and is refused by the kernel. */
static socklen_t name_of(const struct outbox *o, const address_t *address, union name *name) {
    memset(name, 0, sizeof *name);
    memcpy(name, address, sizeof *address);
    if (!o->four || memcmp(name->six.sin6_addr.s6_addr, MAPPED, sizeof MAPPED)) return sizeof name->six;
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = name->six.sin6_port};
    memcpy(&four.sin_addr, name->six.sin6_addr.s6_addr + sizeof MAPPED, sizeof four.sin_addr);
    name->four = four;
    return sizeof name->four;
}

/* Gather slots into runs. The order per address is kept; only the last segment of a run may be shorter. */
static void gather(struct outbox *o) {
    o->runs = 0;
    for (uint32_t i = 0; i < o->queued; i++) {
        uint32_t at = o->runs;
        /* Looked for from the end: neighbours mostly go to the same few addresses. */
        if (!o->whole)
            for (uint32_t back = o->runs; back--;)
                if (same_address(o->to[o->run[back].first].raw, o->to[i].raw)) {
                    if (o->run[back].open && o->lengths[i] <= o->run[back].size && o->run[back].count < CUT_MOST &&
                        (o->run[back].count + 1) * o->run[back].size < CUT_BYTES)
                        at = back;
                    break;
                }
        if (at < o->runs) {
            o->next[o->run[at].last] = i;
            o->run[at].last = i;
            o->run[at].count++;
            o->run[at].open = o->lengths[i] == o->run[at].size;
        } else {
            o->run[at].first = o->run[at].last = i;
            o->run[at].count = 1;
            o->run[at].size = o->lengths[i];
            o->run[at].open = true;
            o->runs++;
        }
    }
}

static void send_whole(struct outbox *o, int fd, uint32_t run) {
    const struct msghdr *header = &o->headers[run].msg_hdr;
    for (uint32_t i = o->run[run].first, left = o->run[run].count; left--; i = o->next[i])
        if (sendto(fd, o->memory[i], o->lengths[i], 0, header->msg_name, header->msg_namelen) < 0) o->unsent++;
}

static void flush(struct outbox *o, int fd) {
    if (!o->queued) return;
    gather(o);
    uint32_t at = 0;
    for (uint32_t run = 0; run < o->runs; run++) {
        uint32_t count = o->run[run].count, i = o->run[run].first;
        struct msghdr *header = &o->headers[run].msg_hdr;
        socklen_t length = name_of(o, &o->to[i], &o->names[run]);
        *header = (struct msghdr){.msg_name = &o->names[run], .msg_namelen = length,
                                  .msg_iov = &o->vectors[at], .msg_iovlen = count};
        for (uint32_t left = count; left--; i = o->next[i])
            o->vectors[at++] = (struct iovec){o->memory[i], o->lengths[i]};
        if (count > 1) {
            struct cmsghdr *control = &o->controls[run].align;
            header->msg_control = control;
            header->msg_controllen = sizeof o->controls[run].room;
            control->cmsg_level = SOL_UDP;
            control->cmsg_type = UDP_SEGMENT;
            control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
            uint16_t size = (uint16_t)o->run[run].size;
            memcpy(CMSG_DATA(control), &size, sizeof size);
            o->joined += count;
        }
    }
    o->queued = 0;
    for (uint32_t done = 0; done < o->runs;) {
        int sent = sendmmsg(fd, o->headers + done, o->runs - done, 0);
        if (sent > 0) {
            for (; sent; sent--)
                if (o->run[done++].count > 1) o->refusals = 0;
            continue;
        }
        if (sent < 0 && errno == EINTR) continue;
        if (o->run[done].count > 1 &&
            (errno == EIO || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOPROTOOPT)) {
            /* Interfaces without checksum offload can't cut; then nothing sent here is ever joined again. */
            if (errno != EINVAL || ++o->refusals == REFUSALS) o->whole = true;
            send_whole(o, fd, done++);
            continue;
        }
        /* One destination refuses, or the kernel's buffer is full: the network would lose that packet too. */
        o->unsent += o->run[done++].count;
    }
}
