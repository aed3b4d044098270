module vproxy-guest

go 1.19
