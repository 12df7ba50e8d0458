#!/usr/bin/perl
# Right after dh_strip, so before dh_gencontrol counts bytes and dh_md5sums sums them.

use strict;
use warnings;

insert_after('dh_strip', 'dh_pkghook');

1;
