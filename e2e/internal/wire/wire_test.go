// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// Frames as tcpdump -xx shows them.
const (
	arpRequest   = "ffffffffffff 021122334455 0806 0001 0800 06 04 0001 021122334455 0a610002 000000000000 0a610001"
	arpReply     = "021122334455 02aabbccddee 0806 0001 0800 06 04 0002 02aabbccddee 0a610001 021122334455 0a610002"
	solicitation = "3333ff000001 021122334455 86dd 60000000 0020 3a ff fd970000000000000000000000000002 ff0200000000000000000001ff000001" +
		"8700 0000 00000000 fd970000000000000000000000000001 0101021122334455"
	advertisement = "021122334455 02aabbccddee 86dd 60000000 0020 3a ff fd970000000000000000000000000001 fd970000000000000000000000000002" +
		"8800 0000 60000000 fd970000000000000000000000000001 020102aabbccddee"
)

func frame(t testing.TB, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDecode(t *testing.T) {
	pod4, pod6 := netip.MustParseAddr("10.97.0.2"), netip.MustParseAddr("fd97::2")
	gateway4, gateway6 := netip.MustParseAddr("10.97.0.1"), netip.MustParseAddr("fd97::1")
	const pod, gateway = "02:11:22:33:44:55", "02:aa:bb:cc:dd:ee"
	for text, want := range map[string]Message{
		arpRequest:    {Kind: ARPRequest, Sender: pod4, Target: gateway4, MAC: pod},
		arpReply:      {Kind: ARPReply, Sender: gateway4, Target: gateway4, MAC: gateway},
		solicitation:  {Kind: Solicitation, Sender: pod6, Target: gateway6, MAC: pod},
		advertisement: {Kind: Advertisement, Sender: gateway6, Target: gateway6, MAC: gateway},
	} {
		t.Run(string(want.Kind), func(t *testing.T) {
			got, ok := decode(frame(t, text))
			if !ok || got != want {
				t.Errorf("decoded %+v, %t; want %+v", got, ok, want)
			}
			cut := frame(t, text)
			for length := range len(cut) - 8 { // the last eight bytes are an option that is not read
				if got, ok := decode(cut[:length]); ok && length < 42 {
					t.Errorf("decoded %+v from the first %d bytes", got, length)
				}
			}
		})
	}
}

// A frame comes from a pod: whatever is in it, decoding must end and not panic.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{arpRequest, arpReply, solicitation, advertisement} {
		f.Add(frame(f, text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		message, ok := decode(data)
		if ok && (message.Kind == "" || !message.Target.IsValid()) {
			t.Errorf("decoded %+v", message)
		}
	})
}
