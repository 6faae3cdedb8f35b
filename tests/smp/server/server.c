/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stress device as a vfio-user server: the protocol, the PCI function, its
 * registers.
 *
 *     server SOCKET
 *
 * QEMU's vfio-user-pci connects to SOCKET.  Maps go to iommu.c, the DMA is done
 * by engine.c.  Faults are told on stdout as they happen; when QEMU has gone,
 * a last line has the totals, and the server ends.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine.h"
#include "iommu.h"
#include "stress_abi.h"

enum {
    CMD_VERSION = 1,
    CMD_DMA_MAP = 2,
    CMD_DMA_UNMAP = 3,
    CMD_GET_INFO = 4,
    CMD_REGION_INFO = 5,
    CMD_IRQ_INFO = 7,
    CMD_SET_IRQS = 8,
    CMD_REGION_READ = 9,
    CMD_REGION_WRITE = 10,
    CMD_RESET = 13,
};

#define FLAG_REPLY      0x1
#define FLAG_NO_REPLY   0x10
#define FLAG_ERROR      0x20

#define UNMAP_ALL       2

#define REGION_BAR0     0
#define REGION_CONFIG   7
#define REGIONS         9
#define IRQS            5
#define CONFIG_SIZE     256
#define MESSAGE_MAX     8192

struct header {
    uint16_t id;
    uint16_t command;
    uint32_t size;
    uint32_t flags;
    uint32_t error;
};

struct dma_map {
    uint32_t argsz;
    uint32_t flags;
    uint64_t offset;
    uint64_t iova;
    uint64_t size;
};

struct dma_unmap {
    uint32_t argsz;
    uint32_t flags;
    uint64_t iova;
    uint64_t size;
};

struct device_info {
    uint32_t argsz;
    uint32_t flags;
    uint32_t regions;
    uint32_t irqs;
};

struct region_info {
    uint32_t argsz;
    uint32_t flags;
    uint32_t index;
    uint32_t cap_offset;
    uint64_t size;
    uint64_t offset;
};

struct irq_info {
    uint32_t argsz;
    uint32_t flags;
    uint32_t index;
    uint32_t count;
};

struct region_access {
    uint64_t offset;
    uint32_t region;
    uint32_t count;
    uint8_t data[CONFIG_SIZE];
};

/* A message's body, in both directions. */
static union {
    char bytes[MESSAGE_MAX];
    struct dma_map map;
    struct dma_unmap unmap;
    struct device_info info;
    struct region_info region;
    struct irq_info irq;
    struct region_access access;
} body;

static uint8_t config[CONFIG_SIZE];
static uint32_t ring_lo, ring_hi, ring_slots, enable;
static uint64_t maps, unmaps, refusals;

/* ---- The function ---- */

static void config_init(void)
{
    memset(config, 0, sizeof(config));
    config[0x00] = STRESS_VENDOR & 0xff;
    config[0x01] = STRESS_VENDOR >> 8;
    config[0x02] = STRESS_DEVICE & 0xff;
    config[0x03] = STRESS_DEVICE >> 8;
    config[0x0b] = 0xff;
}

static void reset(void)
{
    engine_disable();
    config_init();
    ring_lo = ring_hi = ring_slots = enable = 0;
}

static uint32_t reg_read(uint64_t offset)
{
    switch (offset) {
    case STRESS_REG_RING_LO:
        return ring_lo;
    case STRESS_REG_RING_HI:
        return ring_hi;
    case STRESS_REG_SLOTS:
        return ring_slots;
    case STRESS_REG_ENABLE:
        return enable;
    case STRESS_REG_VIOLATIONS:
        return engine_stats.violations;
    case STRESS_REG_MISMATCHES:
        return engine_stats.mismatches;
    case STRESS_REG_ACCESSES:
        return engine_stats.accesses;
    default:
        return 0;
    }
}

static void reg_write(uint64_t offset, uint32_t value)
{
    switch (offset) {
    case STRESS_REG_RING_LO:
        ring_lo = value;
        break;
    case STRESS_REG_RING_HI:
        ring_hi = value;
        break;
    case STRESS_REG_SLOTS:
        ring_slots = value;
        break;
    case STRESS_REG_ENABLE:
        enable = value & 1;
        if (enable) {
            engine_enable((uint64_t)ring_hi << 32 | ring_lo, ring_slots);
        } else {
            engine_disable();
        }
        break;
    }
}

static bool is_access(uint32_t size)
{
    struct region_access *a = &body.access;
    uint64_t end = a->region == REGION_CONFIG ? CONFIG_SIZE :
                   a->region == REGION_BAR0 ? STRESS_BAR_SIZE : 0;

    return size >= sizeof(*a) - sizeof(a->data) &&
           a->count <= sizeof(a->data) && a->offset < end &&
           a->count <= end - a->offset;
}

static int region_read(uint32_t size, uint32_t *reply)
{
    struct region_access *a = &body.access;
    uint32_t value;

    if (!is_access(size)) {
        return -EINVAL;
    }
    memset(a->data, 0, sizeof(a->data));
    if (a->region == REGION_CONFIG) {
        memcpy(a->data, config + a->offset, a->count);
    } else if (a->count == sizeof(value)) {
        value = reg_read(a->offset);
        memcpy(a->data, &value, sizeof(value));
    }
    *reply = sizeof(*a) - sizeof(a->data) + a->count;
    return 0;
}

static int region_write(uint32_t size, uint32_t *reply)
{
    struct region_access *a = &body.access;
    uint32_t value;

    if (!is_access(size)) {
        return -EINVAL;
    }
    if (a->region == REGION_CONFIG) {
        /* QEMU keeps the BARs; who we are cannot be changed. */
        if (a->offset >= 4 && a->offset != 8) {
            memcpy(config + a->offset, a->data, a->count);
        }
    } else if (a->count == sizeof(value)) {
        memcpy(&value, a->data, sizeof(value));
        reg_write(a->offset, value);
    }
    *reply = sizeof(*a) - sizeof(a->data);
    return 0;
}

/* ---- The protocol ---- */

static int version(uint32_t *reply)
{
    static const char capabilities[] =
        "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":4096,"
        "\"max_dma_maps\":65535,\"pgsizes\":4096}}";

    memset(body.bytes, 0, 4);
    memcpy(body.bytes + 4, capabilities, sizeof(capabilities));
    *reply = 4 + sizeof(capabilities);
    return 0;
}

/* What type1 would have refused must never be asked. */
static int judged(const char *what, uint64_t iova, uint64_t size, int error)
{
    if (error) {
        refusals++;
        printf("fault: %s of 0x%" PRIx64 " size 0x%" PRIx64 ": %s\n", what,
               iova, size, strerror(-error));
    }
    return error;
}

static int dma_map(uint32_t size, int fd)
{
    const struct dma_map *m = &body.map;

    if (size < sizeof(*m)) {
        return -EINVAL;
    }
    maps++;
    return judged("map", m->iova, m->size,
                  iommu_map(m->iova, m->size, fd, m->offset));
}

static int dma_unmap(uint32_t size, uint32_t *reply)
{
    const struct dma_unmap *u = &body.unmap;

    if (size < sizeof(*u)) {
        return -EINVAL;
    }
    *reply = sizeof(*u);
    unmaps++;
    if (u->flags & UNMAP_ALL) {
        iommu_unmap_all();
        return 0;
    }
    return judged("unmap", u->iova, u->size, iommu_unmap(u->iova, u->size));
}

static int get_info(uint32_t *reply)
{
    body.info = (struct device_info) {
        .argsz = sizeof(body.info),
        .flags = 3,             /* can be reset, is a PCI device */
        .regions = REGIONS,
        .irqs = IRQS,
    };
    *reply = sizeof(body.info);
    return 0;
}

static int region_info(uint32_t *reply)
{
    uint32_t index = body.region.index;

    body.region = (struct region_info) {
        .argsz = sizeof(body.region),
        .index = index,
    };
    if (index == REGION_CONFIG || index == REGION_BAR0) {
        body.region.flags = 3;  /* can be read and written */
        body.region.size = index == REGION_BAR0 ? STRESS_BAR_SIZE :
                                                  CONFIG_SIZE;
    }
    *reply = sizeof(body.region);
    return 0;
}

static int irq_info(uint32_t *reply)
{
    body.irq.flags = 0;
    body.irq.count = 0;
    *reply = sizeof(body.irq);
    return 0;
}

/* Obey a message; 0 or a negative errno.  @reply: the size of the answer. */
static int dispatch(const struct header *h, uint32_t size, int fd,
                    uint32_t *reply)
{
    *reply = 0;
    switch (h->command) {
    case CMD_VERSION:
        return version(reply);
    case CMD_DMA_MAP:
        return dma_map(size, fd);
    case CMD_DMA_UNMAP:
        return dma_unmap(size, reply);
    case CMD_GET_INFO:
        return get_info(reply);
    case CMD_REGION_INFO:
        return region_info(reply);
    case CMD_IRQ_INFO:
        return irq_info(reply);
    case CMD_SET_IRQS:
        return 0;
    case CMD_REGION_READ:
        return region_read(size, reply);
    case CMD_REGION_WRITE:
        return region_write(size, reply);
    case CMD_RESET:
        reset();
        return 0;
    default:
        return -EOPNOTSUPP;
    }
}

/* Read all of it; keep one descriptor that may come with it. */
static bool receive(int sock, void *data, size_t size, int *fd)
{
    while (size) {
        union {
            char bytes[CMSG_SPACE(sizeof(int))];
            struct cmsghdr align;
        } control;
        struct iovec iov = { data, size };
        struct msghdr msg = {
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = &control,
            .msg_controllen = sizeof(control),
        };
        ssize_t n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
        struct cmsghdr *c;

        if (n <= 0) {
            return false;
        }
        c = CMSG_FIRSTHDR(&msg);
        if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            if (*fd >= 0) {
                close(*fd);
            }
            memcpy(fd, CMSG_DATA(c), sizeof(*fd));
        }
        data = (char *)data + n;
        size -= n;
    }
    return true;
}

static bool send_all(int sock, const void *data, size_t size)
{
    while (size) {
        ssize_t n = send(sock, data, size, MSG_NOSIGNAL);

        if (n <= 0) {
            return false;
        }
        data = (const char *)data + n;
        size -= n;
    }
    return true;
}

static bool answer(int sock, const struct header *h, int error,
                   uint32_t reply)
{
    struct {
        struct header h;
        char body[MESSAGE_MAX];
    } out;

    if (error) {
        reply = 0;
    }
    out.h = *h;
    out.h.size = sizeof(out.h) + reply;
    out.h.flags = FLAG_REPLY | (error ? FLAG_ERROR : 0);
    out.h.error = -error;
    memcpy(out.body, body.bytes, reply);
    return send_all(sock, &out, out.h.size);
}

static bool message(int sock)
{
    struct header h;
    uint32_t size, reply;
    int fd = -1, error;
    bool ok = false;

    if (receive(sock, &h, sizeof(h), &fd) && h.size >= sizeof(h) &&
        h.size - sizeof(h) <= sizeof(body)) {
        size = h.size - sizeof(h);
        ok = receive(sock, &body, size, &fd);
        if (ok) {
            error = dispatch(&h, size, fd, &reply);
            ok = h.flags & FLAG_NO_REPLY || answer(sock, &h, error, reply);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

static int listen_at(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int sock = socket(AF_UNIX, SOCK_STREAM, 0);

    if (strlen(path) >= sizeof(addr.sun_path)) {
        fprintf(stderr, "%s: too long for a socket\n", path);
        exit(1);
    }
    strcpy(addr.sun_path, path);
    if (sock < 0 || bind(sock, (struct sockaddr *)&addr, sizeof(addr)) ||
        listen(sock, 1)) {
        perror(path);
        exit(1);
    }
    return sock;
}

int main(int argc, char **argv)
{
    int listener, sock;

    if (argc != 2) {
        fprintf(stderr, "usage: server SOCKET\n");
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    config_init();
    iommu_init();
    engine_init();
    listener = listen_at(argv[1]);
    printf("listening\n");
    sock = accept(listener, NULL, NULL);
    if (sock < 0) {
        perror("accept");
        return 1;
    }
    while (message(sock)) {
        continue;
    }
    engine_disable();
    printf("accesses %" PRIu64 " served %" PRIu64 " violations %" PRIu64
           " mismatches %" PRIu64 " maps %" PRIu64 " unmaps %" PRIu64
           " refusals %" PRIu64 "\n", engine_stats.accesses,
           engine_stats.served, engine_stats.violations,
           engine_stats.mismatches, maps, unmaps, refusals);
    return 0;
}
