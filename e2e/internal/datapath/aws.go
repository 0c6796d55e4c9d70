// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"

	current "github.com/containernetworking/cni/pkg/types/100"
)

// Gateways of Amazon's VPC CNI, which nobody has and for which nobody answers.
const (
	AWSGateway4 = "169.254.1.1"
	AWSGateway6 = "fe80::1"
)

// aws is the network of Amazon's VPC CNI (cmd/routed-eni-cni-plugin/driver/driver.go): the CNI adds a permanent entry for each
// gateway itself, and insists on being first (CREATE|EXCL). It waits until the IPv6 addresses are usable. On the node a rule leads
// what is for the pod to the main table, before the tables of the network interfaces.
func aws(e *Env) (*current.Result, error) {
	result, err := e.Addresses()
	if err != nil {
		return nil, err
	}
	pod4, pod6 := single(result, AWSGateway4, AWSGateway6)
	host, err := e.Veth(VethOptions{HostMAC: e.MAC()})
	if err != nil {
		return nil, err
	}
	err = e.Inside(func() error {
		err := ip(fmt.Sprintf(`
			route add %[4]s dev %[1]s scope link
			route add default via %[4]s dev %[1]s
			address add %[2]s/32 dev %[1]s
			-6 route add %[5]s dev %[1]s
			-6 route add default via %[5]s dev %[1]s
			-6 address add %[3]s/128 dev %[1]s
			neigh add %[4]s dev %[1]s lladdr %[6]s nud permanent
			-6 neigh add %[5]s dev %[1]s lladdr %[6]s nud permanent`,
			e.IfName, pod4, pod6, AWSGateway4, AWSGateway6, host.Attrs().HardwareAddr))
		return errors.Join(err, settle(e.IfName))
	})
	if err != nil {
		return nil, err
	}
	err = errors.Join(e.routeToPod(pod4, pod6), ip(fmt.Sprintf(`
		rule add to %s lookup main pref 512
		-6 rule add to %s lookup main pref 512`, pod4, pod6)))
	if err != nil {
		return nil, err
	}
	return e.Interfaces(result, host)
}

// awsDel also removes the rules, which no link takes with it.
func awsDel(e *Env) error {
	result, err := e.Previous()
	if err != nil {
		return err
	}
	for _, a := range result.IPs {
		family := "-4"
		if a.Address.IP.To4() == nil {
			family = "-6"
		}
		// A second DEL finds none.
		_ = ip(fmt.Sprintf("%s rule del to %s lookup main pref 512", family, a.Address.IP))
	}
	return e.Clean()
}
