// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/neighpin/neighpin/hooks/nri"
	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/internal/eventlog"
	"github.com/neighpin/neighpin/internal/privileges"
	"github.com/neighpin/neighpin/internal/status"
	"github.com/neighpin/neighpin/internal/statuspage"
	"github.com/neighpin/neighpin/internal/web"
	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/events"
	"github.com/neighpin/neighpin/pkg/metrics"
	"github.com/neighpin/neighpin/pkg/observe"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/sandbox"
)

func (a *app) pluginCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "Run the daemon: an NRI plugin that pins selected sandboxes",
		Long:  "Run the daemon. It stops at SIGTERM or SIGINT, and leaves pins and records as they are.",
		Args:  cobra.NoArgs,
	}
	a.configFlags(cmd, &path)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		// From the beginning to the end: whoever has another configuration read must not
		// end the process by it.
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGHUP)
		defer signal.Stop(signals)
		source := a.loader(cmd, path)
		conf, err := source.Load("")
		if err != nil {
			return err
		}
		a.running = true
		if _, given := a.lookupEnv("GOGC"); !given {
			defer startCollector().stop()
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		context.AfterFunc(ctx, stop) // a second signal ends the process at once
		d := &daemon{source: source, signals: signals, started: time.Now(), log: newLogger(a.stderr, conf)}
		return d.run(ctx, conf)
	}
	return cmd
}

// daemon is the wiring of one process: engine, store and observer, the connection to
// NRI, the configuration that is followed, and those that are told: metrics, Events, the
// status socket, the port.
type daemon struct {
	source  config.Loader
	signals <-chan os.Signal // to read the configuration again
	started time.Time
	log     *logrus.Logger

	connector *nri.Connector
	metrics   *metrics.Metrics

	mu     sync.Mutex // guards the following, which begin stands for
	engine *sandbox.Engine
	store  *containerd.Store
	// observer is nil unless that is asked for and can be had; observeErr is why it
	// cannot.
	observer   *observe.Observer
	observeErr error
	status     *status.Server
	served     *web.Server
	follower   *config.Follower
	unfollow   func()
	// events is nil unless that is asked for and can be had.
	events *events.Recorder
}

// run serves until the context ends, which is no error.
func (d *daemon) run(ctx context.Context, conf config.Config) error {
	d.log.WithFields(logrus.Fields{
		"version": programVersion(), "handlers": conf.Handlers, "annotate": conf.Annotate, "podAnnotations": conf.PodAnnotations, "excludeNamespaces": conf.ExcludeNamespaces,
		"stateDir": conf.StateDir, "netnsDirs": conf.NetNSDirs,
	}).Info("neighpin starts")
	d.metrics = metrics.New(programVersion(), eventlog.New(d.log), d.state)
	d.connector = nri.New(nri.Options{
		Socket: conf.NRISocket, Name: conf.PluginName, Index: conf.PluginIndex,
		Configure: d.configure, Log: d.log, Observe: d.metrics.Hook, Registered: d.metrics.Registration, FailRequest: conf.Enforce,
	})
	if !nri.Launched() {
		// The early path needs no NRI; a plugin that the runtime launched waits
		// for the configuration that comes with it.
		if _, err := d.begin(conf); err != nil {
			return errors.Join(err, d.end())
		}
	}
	err := d.connector.Run(ctx)
	if ctx.Err() != nil {
		d.log.Info("neighpin stops; pins and records stay as they are")
		err = nil
	}
	return errors.Join(err, d.end())
}

// configure takes the configuration that comes with a connection to NRI.
func (d *daemon) configure(text string) (*sandbox.Engine, error) {
	d.mu.Lock()
	running := d.engine
	d.mu.Unlock()
	if running != nil {
		if text != "" {
			d.log.Warn("configuration from NRI ignored: the one that this process was started with is in force")
		}
		return running, nil
	}
	conf, err := d.source.Load(text)
	if err != nil {
		return nil, err
	}
	configureLogger(d.log, conf)
	return d.begin(conf)
}

// begin starts everything but the connection to NRI.
func (d *daemon) begin(conf config.Config) (*sandbox.Engine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	options := sandbox.Options{
		Selection: conf.Selection(), StateDir: conf.StateDir, NetNSDirs: conf.NetNSDirs,
		MaxNeighbors: conf.MaxNeighbors, Reporter: d.reporter(conf),
		CompareInterval: time.Duration(conf.CompareInterval),
		Learn:           conf.Learned == config.LearnedProbe, LearnInterval: time.Duration(conf.LearnedInterval),
		Enforce: conf.Enforce, HostState: sandbox.HostStatePolicy(conf.HostState), ReturnPath: conf.ReturnPath,
	}
	if conf.ContainerdSocket == "" {
		d.log.Warn("no early path: containerdSocket is empty; pods are pinned at NRI's events, which come too late for gVisor on containerd 2.x")
	} else {
		store, err := containerd.NewStore(conf.ContainerdSocket, conf.ContainerdNamespace)
		if err != nil {
			return nil, err
		}
		d.store, options.Store = store, store
		options.Results, options.OneNetwork = conf.CNIResults, store.OneNetwork
	}
	if conf.Observe {
		d.observe(&options)
	}
	engine, err := sandbox.New(options)
	if err != nil {
		return nil, fmt.Errorf("set up engine: %w", err)
	}
	d.engine = engine
	d.confine(conf)
	if err := engine.Start(); err != nil {
		return nil, fmt.Errorf("start engine: %w", err)
	}
	d.followFile(conf)
	d.status, err = status.Serve(conf.StateDir, status.Answers{
		Status: func() status.Status { return d.outline(conf) }, Alive: engine.Alive, Ready: d.ready(conf), Details: d.details(),
	}, d.log)
	if err != nil {
		d.log.WithError(err).Error("no status socket; pods are pinned all the same (is the state directory full or read-only?)")
	}
	if conf.MetricsAddress != "" {
		if err := d.serve(conf, engine); err != nil {
			return nil, err
		}
	}
	return engine, nil
}

// confine gives up all rights that the configuration does not need. Before this only
// the configuration was read, and the namespaces of the host were looked at, of which
// process 1's shows itself to nobody with fewer rights.
func (d *daemon) confine(conf config.Config) {
	left, err := privileges.Keep(needed(conf))
	if err != nil {
		d.log.WithError(err).Warn("this process keeps rights that it does not need")
		return
	}
	d.log.WithField("capabilities", left).Debug("all other capabilities are given up")
}

// serve begins to answer at the metrics' address.
func (d *daemon) serve(conf config.Config, engine *sandbox.Engine) error {
	page, err := statuspage.New(func() statuspage.View { return statuspage.Of(d.snapshot(conf)) })
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	d.served = web.Serve(conf.MetricsAddress, web.Content{
		Metrics: d.metrics.Handler(), Alive: engine.Alive, Ready: d.ready(conf),
		Page: page, Profiles: web.Profiles(conf.Pprof), Names: []string{host, conf.NodeName},
	}, d.log)
	return nil
}

// ready is the question whether the daemon is.
func (d *daemon) ready(conf config.Config) func() error {
	return func() error { return nriStatus(d.connector.State(), conf).Ready() }
}

// followFile has the file's changes taken over from now on.
func (d *daemon) followFile(conf config.Config) {
	d.follower = config.NewFollower(d.source, conf, func(next config.Config) error {
		if err := d.engine.SetSelection(next.Selection()); err != nil {
			return err
		}
		configureLogger(d.log, next)
		return nil
	}, d.log)
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { d.follower.Follow(ctx, d.signals) })
	d.unfollow = func() {
		cancel()
		following.Wait()
	}
}

// observe sets up the observing; where that is not possible the work goes on without.
func (d *daemon) observe(options *sandbox.Options) {
	if d.observer == nil {
		d.observer, d.observeErr = observe.New()
	}
	if d.observeErr != nil {
		d.log.WithError(d.observeErr).Warn("pods are not observed: that needs Linux 6.6, CAP_BPF or CAP_SYS_ADMIN, and CAP_NET_ADMIN; they are pinned all the same")
		return
	}
	options.Observer = d.observer
}

// state is what metrics are made of at each scrape.
func (d *daemon) state() metrics.State {
	d.mu.Lock()
	engine, observer, follower := d.engine, d.observer, d.follower
	d.mu.Unlock()
	nri := d.connector.State()
	state := metrics.State{NRIConnected: nri.Connected, NRISynchronized: nri.Synchronized, ConfigOK: true, ConfigLoadedAt: d.started}
	if engine != nil {
		status := engine.Overview()
		state.StoreConnected, state.Storeless, state.HostHeard = status.StoreConnected, d.store == nil, status.HostHeard
		state.HostMessages, state.Looks, state.Sandboxes = status.HostMessages, status.Looks, engine.Sandboxes()
	}
	if follower != nil {
		loaded := follower.Status()
		state.ConfigOK, state.ConfigLoadedAt = loaded.OK, loaded.LoadedAt
	}
	if observer != nil {
		totals := observer.Totals()
		state.Observed = &record.Observed{Gateways: totals.Gateways, Others: totals.Others}
	}
	return state
}

// end stops what begin started, in the opposite order.
func (d *daemon) end() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	if d.unfollow != nil {
		d.unfollow()
	}
	if d.served != nil {
		errs = append(errs, d.served.Close())
	}
	if d.status != nil {
		errs = append(errs, d.status.Close())
	}
	if d.engine != nil {
		d.engine.Close()
	}
	if d.events != nil {
		d.events.Close()
	}
	if d.observer != nil {
		errs = append(errs, d.observer.Close())
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	return errors.Join(errs...)
}
