package lab

import (
	"os"
	"os/signal"
	"syscall"
)

// TB is what ForTest needs of testing.TB, which stays out of programs this way.
type TB interface {
	Helper()
	Cleanup(func())
	Error(args ...any)
	Fatal(args ...any)
}

// ForTest makes a lab that ends with the test, or with an interrupt.
func ForTest(t TB) *Lab {
	t.Helper()
	l, err := New("sluice-test")
	if err != nil {
		t.Fatal(err)
	}
	interrupts, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-interrupts:
			_ = l.Close()
			os.Exit(1)
		case <-ended:
		}
	}()
	t.Cleanup(func() {
		signal.Stop(interrupts)
		close(ended)
		if err := l.Close(); err != nil {
			t.Error("closing the lab:", err)
		}
	})
	return l
}
