// Cluster DNS: CoreDNS with the five plugins that a cluster's own names need.
//
// Sits behind the kube-dns Service of the test cluster (cluster/lib/node.sh starts it).
// It does not forward: a name outside the cluster has no answer, so no test can lean on the outside.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"

	"github.com/coredns/coredns/coremain"
)

func init() {
	dnsserver.Directives = []string{"errors", "health", "ready", "cache", "kubernetes"}
}

func main() {
	coremain.Run()
}
