// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/neighpin/neighpin/hooks/nri"
	"github.com/neighpin/neighpin/internal/statuspage"
	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/events"
	"github.com/neighpin/neighpin/pkg/metrics"
	"github.com/neighpin/neighpin/pkg/observe"
	"github.com/neighpin/neighpin/pkg/sandbox"
)

// garbage is how much of it may come to lie beside what is in use, in percent, before it
// is collected. Go's own 100 is for programs that make much of it. A daemon that mostly
// holds something, and that for ten thousand sandboxes, makes little, and would keep for
// itself what a burst at the start took.
const garbage = 40

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
		source := loader{path: path, given: cmd.Flags(), lookupEnv: a.lookupEnv}
		config, err := source.load("")
		if err != nil {
			return err
		}
		a.running = true
		if _, given := a.lookupEnv("GOGC"); !given {
			debug.SetGCPercent(garbage)
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		context.AfterFunc(ctx, stop) // a second signal ends the process at once
		d := &daemon{source: source, signals: signals, started: time.Now(), log: newLogger(a.stderr, config)}
		return d.run(ctx, config)
	}
	return cmd
}

// configFlags gives a command the flags of the configuration.
func (a *app) configFlags(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "config", "", "configuration file (YAML); flags go over the environment ("+envPrefix+"…), that over the file")
	defaults := defaultConfig()
	cmd.Flags().AddFlagSet(defaults.flags())
}

func newLogger(out io.Writer, config Config) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(out)
	configureLogger(log, config)
	return log
}

func configureLogger(log *logrus.Logger, config Config) {
	if level, err := logrus.ParseLevel(config.LogLevel); err == nil {
		log.SetLevel(level)
	}
	if config.LogFormat == "json" {
		log.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
	} else {
		log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, TimestampFormat: "2006-01-02T15:04:05.000Z07:00"})
	}
	adoptLibraries(log)
}

// adoptLibraries brings what ttrpc says, which it can only say to logrus's own
// logger, into the daemon's log and format: as a detail, since connections that
// end are told by whoever has them.
func adoptLibraries(log *logrus.Logger) {
	libraries := logrus.StandardLogger()
	libraries.SetOutput(log.Out)
	libraries.SetFormatter(log.Formatter)
	libraries.SetLevel(logrus.FatalLevel)
	if log.IsLevelEnabled(logrus.DebugLevel) {
		libraries.SetLevel(log.GetLevel())
	}
}

// daemon is the wiring of one process: store and engine, the connection to NRI,
// and the status socket.
type daemon struct {
	source  loader
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
	status     *statusServer
	served     *metricsServer
	reload     *reloader
	stopReload func()
	// events is nil unless that is asked for and can be had.
	events *events.Recorder
}

// run serves until the context ends, which is no error.
func (d *daemon) run(ctx context.Context, config Config) error {
	d.log.WithFields(logrus.Fields{
		"version": version, "handlers": config.Handlers, "annotate": config.Annotate, "podAnnotations": config.PodAnnotations, "excludeNamespaces": config.ExcludeNamespaces,
		"stateDir": config.StateDir, "netnsDirs": config.NetNSDirs,
	}).Info("neighpin starts")
	d.metrics = metrics.New(version, &reporter{log: d.log}, d.state)
	d.connector = nri.New(nri.Options{
		Socket: config.NRISocket, Name: config.PluginName, Index: config.PluginIndex,
		Configure: d.configure, Log: d.log, Observe: d.metrics.Hook, Registered: d.metrics.Registration, FailRequest: config.Enforce,
	})
	if !nri.Launched() {
		// The early path needs no NRI; a plugin that the runtime launched waits
		// for the configuration that comes with it.
		if _, err := d.begin(config); err != nil {
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
	config, err := d.source.load(text)
	if err != nil {
		return nil, err
	}
	configureLogger(d.log, config)
	return d.begin(config)
}

// begin starts everything but the connection to NRI.
func (d *daemon) begin(config Config) (*sandbox.Engine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	options := sandbox.Options{
		Selector: config.selector(), StateDir: config.StateDir, NetNSDirs: config.NetNSDirs,
		MaxNeighbors: config.MaxNeighbors, Reporter: d.reporter(config),
		CompareInterval: time.Duration(config.CompareInterval),
		Learn:           config.Learned == learnedProbe, LearnInterval: time.Duration(config.LearnedInterval),
		Enforce: config.Enforce, HostState: sandbox.HostStatePolicy(config.HostState), ReturnPath: config.ReturnPath,
	}
	if config.ContainerdSocket == "" {
		d.log.Warn("no early path: containerdSocket is empty; pods are pinned at NRI's events, which come too late for gVisor on containerd 2.x")
	} else {
		store, err := containerd.NewStore(config.ContainerdSocket, config.ContainerdNamespace)
		if err != nil {
			return nil, err
		}
		d.store, options.Store = store, store
		options.Results, options.OneNetwork = config.CNIResults, store.OneNetwork
	}
	if config.Observe {
		d.observe(&options)
	}
	engine, err := sandbox.New(options)
	if err != nil {
		return nil, fmt.Errorf("set up engine: %w", err)
	}
	d.engine = engine
	d.confine(config)
	if err := engine.Start(); err != nil {
		return nil, fmt.Errorf("start engine: %w", err)
	}
	d.followFile(config)
	d.status, err = serveStatus(config.StateDir, func() Status { return d.outline(config) }, engine.Alive, d.log, d.details(config)...)
	if err != nil {
		d.log.WithError(err).Error("no status socket; pods are pinned all the same (is the state directory full or read-only?)")
	}
	if config.MetricsAddress != "" {
		if err := d.serve(config, engine); err != nil {
			return nil, err
		}
	}
	return engine, nil
}

// confine gives up all rights that the configuration does not need. Before this only
// the configuration was read, and the namespaces of the host were looked at, of which
// process 1's shows itself to nobody with fewer rights.
func (d *daemon) confine(config Config) {
	left, err := confine(needed(config))
	if err != nil {
		d.log.WithError(err).Warn("this process keeps rights that it does not need")
		return
	}
	d.log.WithField("capabilities", left).Debug("all other capabilities are given up")
}

// serve begins to answer at the metrics' address.
func (d *daemon) serve(config Config, engine *sandbox.Engine) error {
	page, err := statuspage.New(func() statuspage.View { return pageView(d.snapshot(config)) })
	if err != nil {
		return err
	}
	shown := pages{metrics: d.metrics.Handler(), status: page, profile: config.Pprof}
	ready := func() error { return ready(nriStatus(d.connector.State(), config)) }
	d.served = serveMetrics(config.MetricsAddress, shown, probes{alive: engine.Alive, ready: ready}, d.log)
	return nil
}

// followFile has the file's changes taken over from now on.
func (d *daemon) followFile(config Config) {
	d.reload = newReloader(d.source, config, func(next Config) error {
		if err := d.engine.SetSelector(next.selector()); err != nil {
			return err
		}
		configureLogger(d.log, next)
		return nil
	}, d.log)
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { d.reload.watch(ctx, d.signals) })
	d.stopReload = func() {
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
	engine, observer, reload := d.engine, d.observer, d.reload
	d.mu.Unlock()
	nri := d.connector.State()
	state := metrics.State{NRIConnected: nri.Connected, NRISynchronized: nri.Synchronized, ConfigOK: true, ConfigLoadedAt: d.started}
	if engine != nil {
		state.Engine, state.Sandboxes, state.Storeless = engine.Overview(), engine.Sandboxes(), d.store == nil
	}
	if reload != nil {
		config := reload.Status()
		state.ConfigOK, state.ConfigLoadedAt = config.OK, config.LoadedAt
	}
	if observer != nil {
		totals := observer.Totals()
		state.Observed = &sandbox.Observed{Gateways: totals.Gateways, Others: totals.Others}
	}
	return state
}

// end stops what begin started, in the opposite order.
func (d *daemon) end() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	if d.stopReload != nil {
		d.stopReload()
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
