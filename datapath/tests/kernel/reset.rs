//! A reset.

use weave_datapath::linux::reset::reset;

use crate::lab::{Host, bare_plan, ip, mac, names, on_a_host, run};

#[test]
fn a_reset_removes_everything_of_ours_and_nothing_else() {
    on_a_host(|| {
        run("ip link add plugged type veth peer name outside");
        run("iptables -N DOCKER-USER");
        run("nft add table inet theirs");
        let before = (run("ip -o link show dev plugged"), run("nft list ruleset"));
        let mut plan = bare_plan(1);
        plan.neighbours.insert(ip("10.32.0.9"), mac(9));
        let mut host = Host::start(plan);
        let container = host.container(5, &["10.32.0.5/12"]);
        run("ip link set plugged master weave");
        host.stop();

        reset(&names()).expect("reset");

        assert_eq!((run("ip -o link show dev plugged"), run("nft list ruleset")), before);
        let links = run("ip -o link");
        assert_eq!(links.lines().count(), 3, "{links}");
        assert!(!container.run("ip -o link").contains("ethwe"));
        reset(&names()).expect("reset again");
    });
}
