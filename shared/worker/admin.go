package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Admin is a worker's own port for operators: /healthz (the process answers),
// /readyz (it can do its work; 503 with the reason otherwise), /metrics
// (Prometheus) and /debug/pprof. Each worker has its own registry, so that
// several run in one process.
type Admin struct {
	Registry *prometheus.Registry
	// State, if set before Run, is what /readyz says of a worker that is ready.
	State func() string

	ln    net.Listener
	mux   *http.ServeMux
	srv   *http.Server
	ready func() error
}

// NewAdmin listens on addr. ready is asked at each /readyz and says why not,
// or nil. The error of a taken port names the setting ADMIN_ADDR.
func NewAdmin(addr, workerName string, ready func() error, log *slog.Logger) (*Admin, error) {
	ln, err := Listen("ADMIN_ADDR", addr, net.ListenConfig{})
	if err != nil {
		return nil, err
	}
	reg := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "sluice_build_info",
		Help:        "Always 1; the labels tell what is running.",
		ConstLabels: prometheus.Labels{"worker": workerName, "version": Version(), "go": runtime.Version()},
	})
	info.Set(1)
	reg.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a := &Admin{Registry: reg, ln: ln, mux: http.NewServeMux(), ready: ready}
	mux := a.mux
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.serveReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	a.srv = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return a, nil
}

func (a *Admin) serveReady(w http.ResponseWriter, _ *http.Request) {
	if err := a.ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if a.State != nil {
		fmt.Fprintln(w, a.State())
		return
	}
	fmt.Fprintln(w, "ready")
}

// Handle adds what a worker has to tell beside that; the pattern is that of
// http.ServeMux. It is for before Run.
func (a *Admin) Handle(pattern string, h http.Handler) { a.mux.Handle(pattern, h) }

// Addr is where the port listens.
func (a *Admin) Addr() net.Addr { return a.ln.Addr() }

// Run serves until the context ends, then closes the port within a second.
func (a *Admin) Run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- a.srv.Serve(a.ln) }()
	select {
	case err := <-done:
		return fmt.Errorf("admin port: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := a.srv.Shutdown(end); err != nil {
		a.srv.Close() // a profile was being taken: it ends here
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin port: %w", err)
	}
	return nil
}

// Close releases the port of an Admin that was never run.
func (a *Admin) Close() error { return a.ln.Close() }

// Listen opens a TCP port; the error names the setting to change.
func Listen(setting, addr string, with net.ListenConfig) (net.Listener, error) {
	ln, err := with.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s=%q: %w (set %s to a free address such as 127.0.0.1:0)", setting, addr, err, setting)
	}
	return ln, nil
}
