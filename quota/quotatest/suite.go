// Package quotatest is the suite that every quota store passes. It checks the contract of
// quota.Store, whatever the store is made of:
//
//	func TestSuite(t *testing.T) {
//		quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
//			return openMyStore(t, clock.Now, calendar)
//		})
//	}
//
// The cases are in one file for each subject. A model of the rules, in model.go, checks
// random sequences of calls. Benchmark measures a store.
package quotatest

import (
	"testing"

	"metergate/quota"
)

// Open opens a store that works by clock and knows no user yet. It registers what must be
// closed with t.Cleanup.
type Open func(t testing.TB, clock *Clock, calendar *quota.Calendar) quota.Store

// cases has the cases of the suite. Each gets a new store whose clock stands at noon.
var cases = map[string]func(*testing.T, *harness){
	// Settling, and what is read of it.
	"a 2xx is counted under its endpoint":     testCommit,
	"a release gives the unit back":           testRelease,
	"a refused request changes nothing":       testRefusal,
	"exactly the limit of many is admitted":   testConcurrentReserves,
	"released units are used again":           testConcurrentReleases,
	"every call is safe to send twice":        testRepeatedCalls,
	"a reserve is repeated after the turn":    testRepeatedReserve,
	"and where months are a user's own":       testRepeatedReserveWithAnchors,
	"and after a change of the plan":          testRepeatedReserveOfPlans,
	"a release overtakes its reserve":         testReleaseOvertakesReserve,
	"a hold ends with its lease":              testLeaseEndsHold,
	"a commit after the lease counts":         testLateCommit,
	"a settled reservation can be forgotten":  testForget,
	"watchers are notified of every request":  testWatch,
	"users do not affect each other":          testUsersAreSeparate,
	"the claimed plan is remembered":          testClaimedPlan,
	"all users of a window are scanned":       testScanUsers,
	"past windows can be read":                testReadAt,
	"a count belongs to its reserve's window": testCountBelongsToWindowOfReserve,
	"deleted windows do not come back":        testCommitAfterRetention,

	// Limits.
	"an endpoint's limit and the plan's":       testEndpointLimit,
	"a minute's limit renews":                  testMinuteRenews,
	"what is used of ever never renews":        testEver,
	"another plan keeps the counts":            testPlanChange,
	"a limit is changed while in use":          testLimitChange,
	"a plan without limits counts":             testPlanWithoutLimits,
	"a limit of 0 refuses everything":          testLimitOfZero,
	"attempts are bounded":                     testAttemptsAreBounded,
	"a limit refuses an attempt":               testLimitRefusesAttempt,
	"a repeated attempt takes one token":       testRepeatedAttempt,
	"exactly the attempts of many pass":        testConcurrentAttempts,
	"attempts come back evenly":                testAttemptsRefill,
	"an attempt limit is changed while in use": testAttemptLimitChange,

	// Windows of an account's own, and what is carried into them.
	"months begin on a user's own day":        testAnchor,
	"changes are made where plans have terms": testChangesWithTerms,
	"a known user keeps the running month":    testAnchorOfKnownUser,
	"a reset makes no user new":               testAnchorAfterReset,
	"months begin on the day of first use":    testFirstUse,
	"an administrator sets the anchor":        testSetAnchor,
	"a scan shows windows of a user's own":    testScanAnchored,
	"random calls over months":                testTermsModel,
	"what was left is carried over once":      testCarry,
	"what is held at the turn is not carried": testCarryLeavesHeld,
	"a rest at the turn is not carried":       testCarryLeavesRest,
	"a limit carries what was left of it":     testCarryOfPlans,

	// Units, soft limits, and requests that run at once.
	"units are held, charged and given back":   testUnits,
	"another plan keeps the units":             testUnitsSurvivePlanChange,
	"units are granted, set and reset":         testUnitGrantsAndCounts,
	"held units end with their lease":          testUnitsEndWithLease,
	"requests of many costs stay in limits":    testConcurrentUnits,
	"exactly the units of many are admitted":   testExactUnits,
	"units are scanned":                        testScanUnits,
	"a soft limit refuses nobody":              testSoftLimit,
	"requests that run at once are bounded":    testConcurrency,
	"never more than the bound run at once":    testConcurrencyIsExact,
	"a request that has waited takes no token": testWaitedRequestTakesNoToken,

	// What a request cost stands at the end of its answer.
	"a request is settled in two steps":        testTwoSteps,
	"rests and requests are held together":     testRestsOfMany,
	"a rest is settled before its request":     testRestBeforeCommit,
	"a commit after the lease leaves its rest": testRestAfterLostHold,
	"a rest counts in its request's windows":   testRestAcrossWindows,
	"rests are shared":                         testRestsAreShared,
	"a reset during a rest":                    testResetDuringRest,
	"units of a rest are read once":            testRestIsReadOnce,
	"requests with rests stay in limits":       testConcurrentRests,
	"watchers are notified of both steps":      testWatchRest,

	// Organisations.
	"members of organisations are scanned":     testScanMembers,
	"snapshots of all users are scanned":       testScanSnapshots,
	"members are held to shared limits":        testSharedLimits,
	"a hold in a pool ends with its lease":     testSharedHoldEndsWithLease,
	"units are shared":                         testSharedUnits,
	"units that a member holds are shared":     testHeldUnitsAreShared,
	"pools are changed":                        testChangesOfPools,
	"a pool's override decides about the plan": testOverrideOfPool,
	"exactly the shared limit is admitted":     testConcurrentMembers,
	"watchers of a pool are notified":          testWatchPool,
	"a pool has one anchor":                    testAnchorOfPool,
	"months of a pool begin on its first use":  testFirstUseOfPool,
	"an override that has ended moves nothing": testEndedOverrideAndAnchor,
	"plans share the windows of a pool":        testPlansOfPool,
	"first requests race with an anchor":       testAnchorsRace,
	"what was left of a pool is carried over":  testSharedCarry,

	// Observe mode.
	"a plan in observe mode refuses nothing":       testObservingPlan,
	"one request is in observe mode":               testObservedRequest,
	"a grant in observe mode":                      testGrantInObserveMode,
	"attempts in observe mode":                     testAttemptsInObserveMode,
	"many requests in observe mode are all passed": testConcurrentReservesInObserveMode,

	// Administration.
	"a grant admits exactly so many more":      testGrant,
	"a grant raises one limit in one window":   testGrantRaisesOneLimit,
	"a grant needs a limit to raise":           testGrantWithoutLimit,
	"a reset leaves holds, grants and history": testReset,
	"a reset among requests":                   testResetAmongRequests,
	"an override decides about the plan":       testOverride,
	"an override changes during a request":     testOverrideDuringRequest,
	"counts are set":                           testSetCounts,
	"a change with an ID is applied once":      testChangeIDAppliesOnce,
	"IDs of changes are bounded":               testChangeIDsAreBounded,
	"the audit log has every change":           testAuditLog,
	"an invalid change changes nothing":        testInvalidChanges,
	"watchers are notified of changes":         testWatchChanges,
}

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newHarness(t, open, noon))
		})
	}
	t.Run("any sequence of calls follows the model", func(t *testing.T) {
		t.Parallel()
		testModel(t, modelSetup{}, open)
	})
}
