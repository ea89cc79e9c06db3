// The network policies of the test cluster: kube-router's controller for them, and nothing else of kube-router.
//
// Runs in the node (cluster/lib/workload.sh starts it) and writes the rules of every NetworkPolicy with iptables and ipset, which
// it looks up in PATH. kube-router's own command would bring routing, BGP and a service proxy along; the cluster has its own.
package main

import (
	"flag"
	"strings"
	"sync"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	core "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "path of the kubeconfig")
	node := flag.String("node", "", "name of the node")
	services := flag.String("service-cidr", "", "addresses of Services: a network of each family of the cluster, separated by commas")
	flag.Parse()
	if err := run(*kubeconfig, *node, *services); err != nil {
		klog.Fatal(err)
	}
}

func run(kubeconfig, node, services string) error {
	rest, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return err
	}
	config := options.NewKubeRouterConfig()
	config.HostnameOverride = node
	config.ClusterIPCIDRs = strings.Split(services, ",")
	config.EnableIPv4, config.EnableIPv6 = false, false
	for _, network := range config.ClusterIPCIDRs {
		if strings.Contains(network, ":") {
			config.EnableIPv6 = true
		} else {
			config.EnableIPv4 = true
		}
	}
	// Every change of a pod or policy is acted on at once; this repairs what another program has changed in the rules.
	config.IPTablesSyncPeriod = time.Minute

	informers := informers.NewSharedInformerFactory(client, 0)
	pods := informers.Core().V1().Pods().Informer()
	// The controller takes a pod for one of its own node by the first address of its host, which in a dual-stack cluster is of
	// the other family for one of the two processes.
	if err := pods.SetTransform(func(object any) (any, error) {
		if pod, isPod := object.(*core.Pod); isPod {
			for _, host := range pod.Status.HostIPs {
				if strings.Contains(host.IP, ":") == config.EnableIPv6 {
					pod.Status.HostIP = host.IP
				}
			}
		}
		return object, nil
	}); err != nil {
		return err
	}
	namespaces := informers.Core().V1().Namespaces().Informer()
	policies := informers.Networking().V1().NetworkPolicies().Informer()
	stop := make(chan struct{})
	informers.Start(stop)
	informers.WaitForCacheSync(stop)

	iptables, ipset, err := netpol.NewIPTablesHandlers(config)
	if err != nil {
		return err
	}
	var sets sync.Mutex
	controller, err := netpol.NewNetworkPolicyController(client, config, pods, policies, namespaces, &sets, iptables, ipset)
	if err != nil {
		return err
	}
	for informer, handler := range map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		pods: controller.PodEventHandler, namespaces: controller.NamespaceEventHandler, policies: controller.NetworkPolicyEventHandler,
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	// The controller blocks until its heartbeats are received.
	heartbeats := make(chan *healthcheck.ControllerHeartbeat)
	go func() {
		for range heartbeats {
		}
	}()
	var wait sync.WaitGroup
	wait.Add(1)
	controller.Run(heartbeats, stop, &wait)
	return nil
}
