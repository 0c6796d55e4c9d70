// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "pin.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

// enter moves the calling thread into the network namespace at path.
static int enter(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int result = setns(fd, CLONE_NEWNET), saved = errno;
	close(fd);
	errno = saved;
	return result;
}

uint64_t netns_cookie(const char *path)
{
	uint64_t cookie = 0;
	socklen_t size = sizeof cookie;
	if (enter(path) < 0)
		return 0;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) < 0)
		cookie = 0;
	int saved = errno;
	close(fd);
	errno = saved;
	return cookie;
}

struct request {
	struct nlmsghdr header;
	struct ndmsg neighbor;
	char attributes[64];
};

static void attribute(struct request *r, unsigned short type, const void *data, unsigned short size)
{
	struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->header.nlmsg_len));
	a->rta_type = type;
	a->rta_len = RTA_LENGTH(size);
	memcpy(RTA_DATA(a), data, size);
	r->header.nlmsg_len = NLMSG_ALIGN(r->header.nlmsg_len) + (__u32)RTA_LENGTH(size);
}

// replace does what `ip neigh replace DST lladdr LLADDR dev DEV nud permanent` does, and waits for the kernel's answer.
static int replace(int netlink, const struct neighbor *n, unsigned index)
{
	struct request r = {
		.header = {
			.nlmsg_len = NLMSG_LENGTH(sizeof(struct ndmsg)),
			.nlmsg_type = RTM_NEWNEIGH,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
		},
		.neighbor = {.ndm_family = (unsigned char)n->family, .ndm_ifindex = (int)index, .ndm_state = NUD_PERMANENT},
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[256];
	} answer;
	attribute(&r, NDA_DST, &n->dst, n->family == AF_INET ? 4 : 16);
	attribute(&r, NDA_LLADDR, n->lladdr, sizeof n->lladdr);
	if (send(netlink, &r, r.header.nlmsg_len, 0) < 0)
		return -1;
	ssize_t size = recv(netlink, &answer, sizeof answer, 0);
	if (size < 0)
		return -1;
	if (size < (ssize_t)NLMSG_LENGTH(sizeof answer.error) || answer.header.nlmsg_type != NLMSG_ERROR) {
		errno = EPROTO;
		return -1;
	}
	errno = -answer.error.error;
	return errno == 0 ? 0 : -1;
}

int pin(const char *path, const struct annotation *annotation, char why[128])
{
	unsigned index[ANNOTATION_MAX_NEIGHBORS];
	if (enter(path) < 0) {
		snprintf(why, 128, "enter the namespace: %s", strerror(errno));
		return -1;
	}
	for (size_t i = 0; i < annotation->count; i++) {
		index[i] = if_nametoindex(annotation->neighbors[i].dev);
		if (index[i] == 0) {
			snprintf(why, 128, "find the link of neighbors[%zu], %s: %s", i, annotation->neighbors[i].dev, strerror(errno));
			return -1;
		}
	}
	int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), result = 0;
	if (netlink < 0) {
		snprintf(why, 128, "open netlink: %s", strerror(errno));
		return -1;
	}
	for (size_t i = 0; i < annotation->count && result == 0; i++) {
		result = replace(netlink, &annotation->neighbors[i], index[i]);
		if (result < 0)
			snprintf(why, 128, "pin neighbors[%zu], %s: %s", i, annotation->neighbors[i].text, strerror(errno));
	}
	close(netlink);
	return result;
}
