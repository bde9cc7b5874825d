package main

import (
	"time"

	"portcullis/internal/duration"
)

const day = 24 * time.Hour

// lifetime is a flag that says for how long something holds: a Go duration that
// may begin with whole days ("15m", "90d", "1d12h"), more than nothing.
type lifetime time.Duration

func (l *lifetime) Set(text string) error {
	d, err := duration.Parse(text)
	if err != nil {
		return err
	}
	*l = lifetime(d)
	return nil
}

// Type is the word for the value in help texts.
func (l *lifetime) Type() string { return "duration" }

func (l *lifetime) String() string {
	if *l == 0 {
		return ""
	}
	return duration.Format(time.Duration(*l))
}

// expiry is when something of that lifetime ends; the zero lifetime never does.
func (l lifetime) expiry(now time.Time) time.Time {
	if l == 0 {
		return time.Time{}
	}
	return now.Add(time.Duration(l))
}
