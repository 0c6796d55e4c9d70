// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/pkg/events"
	"github.com/neighpin/neighpin/pkg/record"
)

// reporter is what the engine reports to: the metrics, the log behind them, and,
// where that is asked for, the pods' Events.
func (d *daemon) reporter(conf config.Config) record.Reporter {
	if !conf.Events {
		return d.metrics
	}
	if d.events != nil {
		return d.events
	}
	server, err := events.InCluster(d.source.LookupEnv)
	if err != nil {
		d.log.WithError(err).Error("no Events are written; pods are pinned all the same")
		return d.metrics
	}
	node := conf.NodeName
	if node == "" {
		if node, err = os.Hostname(); err != nil {
			d.log.WithError(err).Warn("Events name no node: the host has no name, and nodeName is empty")
		}
	}
	d.events = events.New(events.Options{
		Next: d.metrics, Server: server, Node: node,
		Count: d.metrics.KubernetesEvent,
		Fault: func(err error) {
			if err != nil {
				d.log.WithError(err).Warn("no Event can be written at the moment; pods are pinned all the same; said once")
			} else {
				d.log.Info("Events can be written again")
			}
		},
	})
	d.events.Start()
	return d.events
}
