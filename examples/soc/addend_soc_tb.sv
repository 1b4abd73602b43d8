// SPDX-License-Identifier: Apache-2.0
// What software would do first in a SoC: is the accelerator there, and is it the right one?
//
// Reads identity and version over AXI4-Lite and compares them with the generated header, writes a
// register twice and reads it back. Ends in $fatal where one differs, or nothing answers.
//
// +identity=HEX, +version=HEX  what these must read as, instead of the header's values
// +address=HEX                 the register to write; program_address unless given
// +limit=N                     clock cycles to wait for all of it
`include "addend_registers.vh"

module addend_soc_tb;
    localparam [31:0] PATTERN = 32'h5a0f_c380;

    logic clk = 0, rst = 1;
    always #5 clk = ~clk;

    logic [11:0] address;
    logic [31:0] wdata, rdata;
    logic [1:0] bresp, rresp;
    logic awvalid = 0, wvalid = 0, bready = 0, arvalid = 0, rready = 0;
    logic awready, wready, bvalid, arready, rvalid;

    // Its memory never answers; without a program it is never asked.
    addend dut (
        .clk(clk), .rst(rst), .irq(),
        .s_axil_awaddr(address), .s_axil_awprot(3'b000), .s_axil_awvalid(awvalid),
        .s_axil_awready(awready), .s_axil_wdata(wdata), .s_axil_wstrb(4'hf),
        .s_axil_wvalid(wvalid), .s_axil_wready(wready), .s_axil_bresp(bresp),
        .s_axil_bvalid(bvalid), .s_axil_bready(bready), .s_axil_araddr(address),
        .s_axil_arprot(3'b000), .s_axil_arvalid(arvalid), .s_axil_arready(arready),
        .s_axil_rdata(rdata), .s_axil_rresp(rresp), .s_axil_rvalid(rvalid),
        .s_axil_rready(rready),
        .m_axi_awaddr(), .m_axi_awlen(), .m_axi_awvalid(), .m_axi_awready(1'b0), .m_axi_awid(),
        .m_axi_awsize(), .m_axi_awburst(), .m_axi_awlock(), .m_axi_awcache(), .m_axi_awprot(),
        .m_axi_wdata(), .m_axi_wstrb(), .m_axi_wlast(), .m_axi_wvalid(), .m_axi_wready(1'b0),
        .m_axi_bvalid(1'b0), .m_axi_bready(), .m_axi_bid(1'b0), .m_axi_bresp(2'b00),
        .m_axi_araddr(), .m_axi_arlen(), .m_axi_arvalid(), .m_axi_arready(1'b0), .m_axi_arid(),
        .m_axi_arsize(), .m_axi_arburst(), .m_axi_arlock(), .m_axi_arcache(), .m_axi_arprot(),
        .m_axi_rvalid(1'b0), .m_axi_rready(), .m_axi_rid(1'b0), .m_axi_rdata('0),
        .m_axi_rresp(2'b00), .m_axi_rlast(1'b0));

    task automatic write(input [11:0] where, input [31:0] value);
        address <= where; wdata <= value; awvalid <= 1; wvalid <= 1; bready <= 1;
        do begin
            @(posedge clk);
            if (awready) awvalid <= 0;
            if (wready) wvalid <= 0;
        end while (bvalid !== 1);
        bready <= 0;
        if (bresp !== 0) $fatal(1, "write of %h: response %0d", where, bresp);
    endtask

    task automatic check(input [11:0] where, input [31:0] expected);
        address <= where; arvalid <= 1; rready <= 1;
        do begin
            @(posedge clk);
            if (arready) arvalid <= 0;
        end while (rvalid !== 1);
        rready <= 0;
        if (rresp !== 0) $fatal(1, "read of %h: response %0d", where, rresp);
        if (rdata !== expected) $fatal(1, "%h reads %h, not %h", where, rdata, expected);
    endtask

    logic [31:0] identity, version, held;
    integer limit;

    initial begin
        if (!$value$plusargs("identity=%h", identity)) identity = `ADDEND_IDENTITY_VALUE;
        if (!$value$plusargs("version=%h", version)) version = `ADDEND_VERSION_VALUE;
        if (!$value$plusargs("address=%h", held)) held = `ADDEND_PROGRAM_ADDRESS;
        if (!$value$plusargs("limit=%d", limit)) limit = 1000;
        repeat (4) @(posedge clk);
        rst <= 0;
        check(12'(`ADDEND_IDENTITY), identity);
        check(12'(`ADDEND_VERSION), version);
        write(12'(held), PATTERN);
        check(12'(held), PATTERN);
        write(12'(held), ~PATTERN);
        check(12'(held), ~PATTERN);
        $display("addend: identity %h, version %h, register %h holds", identity, version, held);
        $finish;
    end

    initial begin
        @(negedge rst);
        repeat (limit) @(posedge clk);
        $fatal(1, "no answer in %0d cycles", limit);
    end
endmodule
