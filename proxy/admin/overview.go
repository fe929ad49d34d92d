package admin

import (
	"net/http"
	"time"

	"metergate/proxy/admin/recent"
)

// A Monitor says what the overview shows of a gateway. The methods are called concurrently, and must return
// at once: they tell what is known, and ask nobody.
type Monitor interface {
	// Session returns what a page has to know of the gateway, all but the role.
	Session() Session
	// Overview returns the state of the gateway, all but the checks, the last hour and the upstreams.
	Overview() Overview
}

// A Session is the answer to GET /admin/session: what a token may do, and what the configuration has.
type Session struct {
	Role        string   `json:"role"` // admin or viewer
	Version     string   `json:"version"`
	HistoryDays int      `json:"history_days"` // 0: no history is kept
	Orgs        bool     `json:"orgs"`         // tokens can name an organisation
	Units       bool     `json:"units"`        // limits or costs are in units
	UnitName    string   `json:"unit_name"`
	Timezone    string   `json:"timezone"` // in which windows begin
	WarnAt      int      `json:"warn_at"`  // the percentage from which a user is warned
	Endpoints   []string `json:"endpoints"`
	Plans       []string `json:"plans"`
}

// An Overview is the answer to GET /admin/overview: how one gateway is, and its last hour.
type Overview struct {
	Gateway GatewayState      `json:"gateway"`
	Config  ConfigState       `json:"config"`
	Store   StoreState        `json:"store"`
	Journal *JournalState     `json:"journal"` // null: the store needs none
	Checks  map[string]string `json:"checks"`  // those of /readyz, by name: "ok", or the fault
	Open    OpenState         `json:"open"`
	Hour    recent.Hour       `json:"hour"`
	// Series is in the answer to GET /admin/overview, Point in each event of GET /admin/events.
	Series    *recent.Series      `json:"series,omitempty"`
	Point     *recent.PointValues `json:"point,omitempty"` // absent: there is none yet
	Upstreams *UpstreamList       `json:"upstreams,omitempty"`
}

// GatewayState is about the process.
type GatewayState struct {
	Version   string    `json:"version"`
	Commit    string    `json:"commit"`
	Go        string    `json:"go"`
	StartedAt time.Time `json:"started_at"`
	Host      string    `json:"host"`
	PID       int       `json:"pid"`
	Draining  bool      `json:"draining"`
}

// ConfigState is about the configuration in force.
type ConfigState struct {
	File      string       `json:"file"`
	Hash      string       `json:"hash"` // of its files, SHA-256
	LoadedAt  time.Time    `json:"loaded_at"`
	LastFault *ConfigFault `json:"last_fault"` // null: the files as they are now are in force
	Warnings  []string     `json:"warnings"`
}

// A ConfigFault says why the files as they are now are not in force.
type ConfigFault struct {
	At    time.Time `json:"at"`
	Lines []string  `json:"lines"`
}

// StoreState is about the store.
type StoreState struct {
	Kind     string   `json:"kind"` // redis, cluster, sentinel or embedded
	OK       bool     `json:"ok"`   // it counts
	Faults   []string `json:"faults"`
	Breaker  string   `json:"breaker,omitempty"`   // closed or open; absent: the store needs none
	FileSize int64    `json:"file_size,omitempty"` // bytes; absent: it has no file
	FileFree int64    `json:"file_free,omitempty"` // of which are free for later counts
}

// JournalState is about the counts that wait for the store.
type JournalState struct {
	Waiting int64 `json:"waiting"`
	Bytes   int64 `json:"bytes"` // size of the file
	// OldestAt is since when some count has been waiting; null: none is.
	OldestAt *time.Time `json:"oldest_at"`
}

// OpenState is what runs now.
type OpenState struct {
	Requests    int `json:"requests"`
	Streams     int `json:"streams"`     // of usage
	Connections int `json:"connections"` // of clients
}

// getSession serves GET /admin/session.
func (h *handler) getSession(w http.ResponseWriter, r *http.Request) {
	s := h.Monitor.Session()
	s.Role = h.tokens().roleOf(bearerToken(r)).String()
	writeJSON(w, http.StatusOK, s)
}

// getOverview serves GET /admin/overview.
func (h *handler) getOverview(w http.ResponseWriter, r *http.Request) {
	o := h.overview(r)
	series := h.Recent.Series()
	o.Series = &series
	writeJSON(w, http.StatusOK, o)
}

// overview returns the state of the gateway without a series. It takes a second at most: as long as a check
// may take.
func (h *handler) overview(r *http.Request) Overview {
	o := h.Monitor.Overview()
	o.Hour = h.Recent.Hour()
	if h.Upstreams != nil {
		o.Upstreams = &UpstreamList{h.Upstreams.List()}
	}
	o.Checks = map[string]string{}
	if h.Probes != nil {
		o.Checks = runChecks(r.Context(), h.Probes.Checks())
	}
	return o
}
