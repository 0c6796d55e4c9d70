// SPDX-License-Identifier: Apache-2.0

package datapath

// routed are networks in which the pod has a link of its own to a router: mostly a veth to the node.
func routed() []Datapath {
	rows := []Datapath{
		{Name: "cilium", Add: cilium(answering, "nodad")},
		{Name: "cilium-silent", Add: cilium(silent, "nodad")},
		{Name: "tentative", Add: cilium(silent, "")},
		{Name: "calico", Add: calico("1", "80")},
		{Name: "calico-prompt", Add: calico("1", "0")},
		{Name: "calico-silent", Add: calico("0", "80")},
		{Name: "first-lost", Add: after(ptp, loseFirst), Del: delegated("ptp")},
		{Name: "noarp", Add: noARP},
		{Name: "routes", Add: routes, Del: routesDel},
		{Name: "advertised", Add: advertised, Del: delegated("ptp")},
		{Name: "aws-vpc", Add: aws, Del: awsDel},
		{Name: "azure-transparent", Add: azureTransparent},
		{Name: "azure-transparent-vlan", Add: azureTransparentVLAN, Del: azureVLANDel},
	}
	for i := range rows {
		rows[i].Add = after(rows[i].Add, recordSysctls)
	}
	return rows
}
