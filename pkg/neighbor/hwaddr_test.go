// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"net"
	"testing"
)

func FuzzParseHardwareAddr(f *testing.F) {
	for _, s := range []string{hostMAC, "02:00:00:00:00:0G", "02-00-00-00-00-01", "0200.0000.0001", "", "ff:ff:ff:ff:ff:ff", "AA:BB:CC:DD:EE:FE"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseHardwareAddr(s)
		if err != nil {
			return
		}
		b, ok := a.bytes()
		if !ok || HardwareAddr(net.HardwareAddr(b[:]).String()) != a || !a.IsUnicast() {
			t.Fatalf("%q gives %q", s, a)
		}
		if again, err := ParseHardwareAddr(a.String()); again != a || err != nil {
			t.Fatalf("%q gives %q, then %q, %v", s, a, again, err)
		}
	})
}
