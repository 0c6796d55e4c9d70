// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"fmt"
	"os/exec"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The offsets of struct seccomp_data (linux/seccomp.h) and the operations of its
// programs (linux/bpf_common.h). The low half of an argument comes first on the
// machines that the tests run on.
const (
	seccompNumber = 0
	seccompLevel  = 16 + 8
	seccompOption = 16 + 2*8

	load      = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	jumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	leave     = unix.BPF_RET | unix.BPF_K

	seccompAllow = 0x7fff0000 // SECCOMP_RET_ALLOW
	seccompErrno = 0x00050000 // SECCOMP_RET_ERRNO
)

// RunWithoutCookies runs a program for which the kernel is one from before Linux
// 5.14, as far as it does not know SO_NETNS_COOKIE: a filter answers what such a
// kernel does (net/core/sock.c, sock_getsockopt: ENOPROTOOPT).
func RunWithoutCookies(tb testing.TB, cmd *exec.Cmd) error {
	tb.Helper()
	done := make(chan error)
	go func() {
		// The filter belongs to the thread and to what it starts, and never goes
		// away: the thread ends with this goroutine.
		runtime.LockOSThread()
		if err := forgetCookies(); err != nil {
			done <- err
			return
		}
		done <- cmd.Run()
	}()
	return <-done
}

// forgetCookies installs the filter for the calling thread.
func forgetCookies() error {
	program := []unix.SockFilter{
		{Code: load, K: seccompNumber},
		{Code: jumpEqual, K: unix.SYS_GETSOCKOPT, Jf: 5},
		{Code: load, K: seccompLevel},
		{Code: jumpEqual, K: unix.SOL_SOCKET, Jf: 3},
		{Code: load, K: seccompOption},
		{Code: jumpEqual, K: unix.SO_NETNS_COOKIE, Jf: 1},
		{Code: leave, K: seccompErrno | uint32(unix.ENOPROTOOPT)},
		{Code: leave, K: seccompAllow},
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&filter))) //nolint:gosec // as seccomp(2) wants it
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("install filter (root?): %w", errno)
	}
	return nil
}
