package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a time zone must not depend on what the machine has installed

	"gopkg.in/yaml.v3"

	"metergate/quota"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	levelType    = reflect.TypeFor[slog.Level]()
	periodType   = reflect.TypeFor[quota.Period]()
	locationType = reflect.TypeFor[*time.Location]()
	prefixType   = reflect.TypeFor[netip.Prefix]()
	urlType      = reflect.TypeFor[*url.URL]()

	claimPlansType = reflect.TypeFor[ClaimPlans]() // a mapping whose order counts
)

// convert sets v from the text of a scalar, by the rules of the tag "as" or else of v's type.
// Its errors say what the value must be, and do not show it.
func convert(n *yaml.Node, v reflect.Value, tag reflect.StructTag) error {
	var value any
	var err error
	text := n.Value
	switch as := tag.Get("as"); {
	case as == "size":
		value, err = parseSize(text)
	case v.Type() == durationType:
		value, err = parseDuration(text)
	case v.Type() == levelType:
		value, err = parseLevel(text)
	case v.Type() == periodType:
		value, err = parsePeriod(text)
	case v.Type() == locationType:
		value, err = parseZone(text)
	case v.Type() == prefixType:
		value, err = parseNetwork(text)
	case v.Type() == urlType:
		value, err = parseTarget(text)
	case v.Kind() == reflect.Bool && tag.Get("oneof") != "":
		no, yes, _ := strings.Cut(tag.Get("oneof"), ", ")
		value, err = text == yes, oneOf(text, no, yes)
	case v.Kind() == reflect.Bool:
		if n.ShortTag() != "!!bool" {
			return errors.New("must be true or false")
		}
		return n.Decode(v.Addr().Interface())
	case v.Kind() == reflect.Float64:
		// YAML reads 1e-1 and .inf as numbers.
		number, err := strconv.ParseFloat(text, 64)
		if tag := n.ShortTag(); tag != "!!int" && tag != "!!float" || err != nil || strings.Trim(text, "-.0123456789") != "" {
			return errors.New("must be a number, written in decimal")
		}
		v.SetFloat(number)
		return nil
	case v.Kind() == reflect.Int || v.Kind() == reflect.Int64:
		// YAML reads 0100 as 64.
		number, err := parseDecimal(text, v.Type().Bits())
		if n.ShortTag() != "!!int" || err != nil {
			return errors.New("must be a whole number, written in decimal")
		}
		v.SetInt(number)
		return nil
	default:
		if list, ok := tag.Lookup("oneof"); ok {
			if err := oneOf(text, strings.Split(list, ", ")...); err != nil {
				return err
			}
		}
		v.SetString(text)
		if as == "header" {
			v.SetString(http.CanonicalHeaderKey(text))
		}
		return checkText(text, as)
	}
	if err == nil {
		v.Set(reflect.ValueOf(value))
	}
	return err
}

func oneOf(text string, allowed ...string) error {
	if slices.Contains(allowed, text) {
		return nil
	}
	last := len(allowed) - 1
	return fmt.Errorf("must be %s or %s", strings.Join(allowed[:last], ", "), allowed[last])
}

// parseDuration reads a duration of time.ParseDuration, with an optional number of days in
// front.
func parseDuration(text string) (time.Duration, error) {
	errSyntax := errors.New("must be a duration such as 250ms, 90s, 1h30m or 400d")
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return 0, errors.New("must have a unit: ms, s, m, h or d (90s, 400d)")
	}
	var days int64
	if before, after, found := strings.Cut(text, "d"); found {
		n, err := strconv.ParseUint(before, 10, 31)
		if err != nil || n > math.MaxInt64/uint64(24*time.Hour) {
			return 0, errSyntax
		}
		if days = int64(n); after == "" {
			return time.Duration(days) * 24 * time.Hour, nil
		}
		text = after
		if !(text[0] >= '0' && text[0] <= '9') {
			return 0, errSyntax
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d > 0 && time.Duration(days)*24*time.Hour > math.MaxInt64-d {
		return 0, errSyntax
	}
	return time.Duration(days)*24*time.Hour + d, nil
}

// parseDecimal reads a whole number in its only spelling: no leading 0 and no +.
func parseDecimal(text string, bits int) (int64, error) {
	n, err := strconv.ParseInt(text, 10, bits)
	if err == nil && text != strconv.FormatInt(n, 10) {
		err = strconv.ErrSyntax
	}
	return n, err
}

// parseSize reads a number of bytes.
func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "KMGiB")
	unit, ok := map[string]int64{
		"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
	}[text[len(digits):]]
	n, err := parseDecimal(strings.TrimSpace(digits), 64)
	if !ok || err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, errors.New("must be a number of bytes in decimal, alone or with KB, MB, GB, KiB, MiB or GiB")
	}
	return n * unit, nil
}

func parseLevel(text string) (slog.Level, error) {
	// slog's own parser also accepts INFO+2, which is not documented here.
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	return levels[text], oneOf(text, "debug", "info", "warn", "error")
}

func parsePeriod(text string) (p quota.Period, err error) {
	if p.UnmarshalText([]byte(text)) == nil {
		return p, nil
	}
	return 0, oneOf(text, periodNames()...)
}

func periodNames() (names []string) {
	for _, p := range quota.Periods() {
		names = append(names, p.String())
	}
	return names
}

func parseZone(text string) (*time.Location, error) {
	if text == "Local" {
		return nil, errors.New("must not be Local, which differs between machines; name the zone, such as Europe/Berlin")
	}
	loc, err := time.LoadLocation(text)
	if err != nil {
		return nil, errors.New("must be UTC or the name of an IANA time zone, such as Europe/Berlin")
	}
	return loc, nil
}

// networkUnix is how a list of networks names those who connect to a Unix socket. As a netip.Prefix it is
// the zero value, which contains no address.
const networkUnix = "unix"

// parseNetwork reads a network. A single address becomes a network of one.
func parseNetwork(text string) (netip.Prefix, error) {
	if text == networkUnix {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(text)
	if a, addrErr := netip.ParseAddr(text); addrErr == nil {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
		if a.Zone() != "" {
			return p, errors.New("must not have a zone (%...)")
		}
	}
	switch {
	case err != nil:
		return p, errors.New("must be a network such as 10.0.0.0/8 or 2001:db8::/32, an IP address, or unix")
	case p.Addr().Is4In6():
		return p, errors.New("must be written as IPv4, such as 10.0.0.0/8")
	case p.Bits() == 0:
		return p, errors.New("must not be /0, because any client could then forge its address; list the networks of your proxies")
	case p != p.Masked():
		return p, fmt.Errorf("must be %s for the network, or have no / for the single address", p.Masked())
	}
	return p, nil
}
